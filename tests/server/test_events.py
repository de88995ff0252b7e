"""Events over the network: order, holds, slow clients, rights, and what publishing costs."""

from __future__ import annotations

import json
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import CallContext, EventError, NotRunningError, Retention, RpcTable, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.methods import register_methods
from dilithion_ws.net.message_server import MessageServer

from ..support import RawClient, client_frame, wait_for
from ..support.accounts import code, log_in, write_users
from ..support.configs import make_config
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import block, events, subscribe


def test_blocks_arrive_as_published(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server)
    reply = subscribe(client)
    assert reply == {"subscription": "blocks", "topic": "blocks", "epoch": reply["epoch"], "seq": 0}
    for height in range(1, 4):
        server.publish("blocks", block(height))
    found = events(client, 3)
    assert [params["result"] for params in found] == [block(1), block(2), block(3)]
    assert [(params["seq"], params["prev"]) for params in found] == [(1, 0), (2, 1), (3, 2)]
    assert {params["epoch"] for params in found} == {reply["epoch"]}
    assert client.call("unsubscribe", "blocks")["result"] is True
    assert code(client.call("unsubscribe", "blocks")) == -32602
    server.publish("blocks", block(4))
    assert client.call("getblockcount")["result"] == 840000, "nothing came in between"


def test_topics_and_subscriptions_are_listed(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    server.topic("prices", permission="READ_BLOCKCHAIN", mode="latest", filters={"pair": "pair"})
    client = connect(server)
    topics = {topic["topic"]: topic for topic in client.call("topics")["result"]}
    assert set(topics) == {"blocks", "mempool", "peers", "mining", "prices"}
    assert topics["mempool"]["filters"] == ["kind", "txid", "address"]
    assert topics["prices"]["mode"] == "latest"
    reply = subscribe(client, "prices", filter={"pair": "DIL/BTC"})
    wait_for(lambda: client.call("subscriptions")["result"][0]["state"] == "live")
    assert client.call("subscriptions")["result"] == [
        {
            "subscription": reply["subscription"],
            "topic": "prices",
            "filter": {"pair": "DIL/BTC"},
            "mode": "latest",
            "epoch": reply["epoch"],
            "seq": 0,
            "state": "live",
        }
    ]


def test_mempool_is_filtered_by_address_and_kind(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server)
    reply = subscribe(client, "mempool", filter={"address": "Dmine", "kind": ["added"]})
    for number, address in enumerate(["Dmine", "Dother", "Dmine"], 1):
        event = {"txid": f"{number}", "size": 1, "fee": 0.5, "sequence": number, "addresses": ["Dx", address]}
        server.publish("mempool", {"kind": "added", **event})
        server.publish("mempool", {"kind": "removed", "reason": "mined", **event})
    found = events(client, 2)
    assert [params["result"]["txid"] for params in found] == ["1", "3"]
    assert [(params["seq"], params["prev"]) for params in found] == [(1, 0), (5, 1)]
    again = connect(server)
    since = {"epoch": reply["epoch"], "seq": 0}
    assert subscribe(again, "mempool", filter={"address": "Dmine", "kind": ["added"]}, since=since)["recovered"]
    assert events(again, 2) == found


def test_a_search_of_the_log_is_charged_to_the_client_that_causes_it(
    start: ServerFactory, connect: ClientFactory
) -> None:
    server = start(limit_loopback=True, byte_burst=200_000, byte_rate=1000)
    for height in range(1, 4001):
        server.publish("blocks", block(height))
    client = connect(server)
    begin = {"epoch": server.events.topic("blocks").log.position.epoch, "seq": 0}
    reply = subscribe(client, filter={"kind": "disconnected"}, since=begin)
    assert reply["recovered"] is True
    assert "rpcwebsocketbyterate" in client.call("rpc.ping")["error"]["message"]


@pytest.mark.parametrize(
    ("since", "reason"), [({"epoch": "other", "seq": 1}, "epoch"), ({"seq": 99}, "ahead"), ({"seq": 1}, "expired")]
)
def test_recovery_is_whole_or_refused(
    start: ServerFactory, connect: ClientFactory, since: dict[str, Any], reason: str
) -> None:
    server = start(history_entries=3, history_lag=0)
    for height in range(1, 8):
        server.publish("blocks", block(height))
    client = connect(server)
    epoch = client.call("topics")["result"][0]["epoch"]
    reply = subscribe(client, since={"epoch": epoch, **since})
    assert (reply["recovered"], reply["reason"], reply["seq"]) == (False, reason, 7)
    server.publish("blocks", block(8))
    assert events(client, 1)[0]["seq"] == 8, "from now on"
    other = connect(server)
    assert subscribe(other, since={"epoch": epoch, "seq": 5})["recovered"] is True
    assert [params["seq"] for params in events(other, 3)] == [6, 7, 8]


class Publisher(threading.Thread):
    """Publishes without a pause."""

    def __init__(self, server: WebSocketServer, topic: str = "t") -> None:
        super().__init__(daemon=True)
        self.server, self.topic = server, topic
        self.stopping = threading.Event()
        self.count = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            self.count += 1
            self.server.publish(self.topic, {"n": self.count})
            if self.count % 100 == 0:
                self.stopping.wait(0.0005)

    def __enter__(self) -> Publisher:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self.join(10)


def test_reply_before_events_and_replay_before_live_under_a_publisher_that_does_not_pause(
    start: ServerFactory, connect: ClientFactory
) -> None:
    server = start(history_entries=100_000)
    server.topic("t")
    with Publisher(server):
        wait_for(lambda: server.events.topic("t").log.position.seq > 1000)
        epoch, _ = server.events.topic("t").log.position
        for _ in range(20):
            client = connect(server)
            # Behind other calls in one packet, alone, and in a batch: each way the reply has to come first.
            head = server.events.topic("t").log.position.seq
            since = {"epoch": epoch, "seq": head - 500}
            request = json.dumps({"method": "subscribe", "params": {"topic": "t", "since": since}, "id": "s"})
            client.send(client_frame(1, b'{"method":"getblockcount","id":0}') * 5 + client_frame(1, request.encode()))
            assert [client.answer()["id"] for _ in range(6)] == [0, 0, 0, 0, 0, "s"]
            assert [params["seq"] for params in events(client, 1500)] == list(range(head - 499, head + 1001))
            client.text(json.dumps([{"method": "unsubscribe", "params": ["t"], "id": 1}]))
            while not isinstance(client.answer(), list):
                pass
            client.text(f"[{request}]")
            while not isinstance(answer := client.answer(), list):
                raise AssertionError(f"{answer} came before the reply")
            assert answer[0]["id"] == "s"
            client.close()


def test_without_the_hold_events_do_overtake_the_reply(
    start: ServerFactory, connect: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above, turned round: the hold is what makes it pass."""
    server = start(history_entries=100_000)
    server.topic("t")

    original = server.events.subscribe

    def subscribe_and_activate(*args: Any, **options: Any) -> Any:
        subscription, reply = original(*args, **options)
        server.events.activate(subscription)
        threading.Event().wait(0.01)  # what any handler may take
        return subscription, reply

    monkeypatch.setattr(server.events, "subscribe", subscribe_and_activate)
    monkeypatch.setattr(MessageServer, "call_hooks", lambda self: self.pending_hooks.clear())
    with Publisher(server):
        wait_for(lambda: server.events.topic("t").log.position.seq > 100)
        for _ in range(100):  # on a busy machine not each of them
            client = connect(server)
            client.request("subscribe", {"topic": "t"}, id="s")
            if client.answer().get("method") == "subscription":
                return
    raise AssertionError("no event came before its reply")


def test_a_reorganisation_is_every_disconnect_and_then_every_connect(
    start: ServerFactory, connect: ClientFactory
) -> None:
    rpc, node = RpcTable(), DevNode(seed=4, mining=False)
    register_methods(rpc, node, lambda: None)
    server = start(rpc)
    node.publish = server.publish
    live = [connect(server) for _ in range(3)]
    replies = [subscribe(client) for client in live]
    node.generate(2, node.wallet.addresses[0])
    with node.changed:
        node._reorganise()
    node.generate(1, node.wallet.addresses[0])
    seen = [[params["result"] for params in events(client, 6)] for client in live]
    late = connect(server)
    subscribe(late, since={"epoch": replies[0]["epoch"], "seq": 0})
    seen.append([params["result"] for params in events(late, 6)])
    assert all(one == seen[0] for one in seen)
    assert [event["kind"] for event in seen[0]] == [
        "connected", "connected", "disconnected", "connected", "connected", "connected",
    ]  # fmt: skip
    chain: list[str] = [node.chain.active[-5].hash]
    for event in seen[0]:
        if event["kind"] == "connected":
            assert event["previousblockhash"] == chain[-1]
            chain.append(event["hash"])
        else:
            assert chain.pop() == event["hash"]
            assert chain[-1] == event["previousblockhash"]
    assert chain[-1] == node.chain.tip.hash


def test_state_and_stream_join_without_a_hole(start: ServerFactory, connect: ClientFactory) -> None:
    """A snapshot stamped with its position, and the events behind it, are the state: while it changes all the time."""
    state: set[int] = set()
    changing = threading.Lock()
    rpc = RpcTable()

    @rpc.method(position_of="t")
    def snapshot() -> list[int]:
        with changing:
            return sorted(state)

    server = start(rpc, history_entries=100_000)
    server.topic("t", filters={})
    stopping = threading.Event()

    def change() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            with changing:
                state.add(number)
                state.discard(number - 50)
            server.publish("t", {"add": number, "remove": number - 50})
            stopping.wait(0.0002)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            client = connect(server)
            answer = client.call("snapshot")
            mine, position = set(answer["result"]), answer["position"]
            subscribe(client, "t", since={"epoch": position["epoch"], "seq": position["seq"]})
            for params in events(client, 200):
                mine.add(params["result"]["add"])
                mine.discard(params["result"]["remove"])
                last = params["result"]["add"]
            assert mine == set(range(last - 49, last + 1)) or mine == set(range(1, last + 1)) - set(range(1, last - 49))
    finally:
        stopping.set()
        thread.join()


@pytest.mark.load
def test_publishing_costs_the_same_whatever_the_number_of_subscribers(
    start: ServerFactory, connect: ClientFactory, record_property: Any
) -> None:
    """2,000 subscribers of whom 500 never read. What publish() itself takes is measured in CPU time of its thread."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    server = start(connections=5000, write_stall=600.0, outbox=1 << 20)
    server.topic("t", retention=Retention(1000, 600.0, 2 << 20))

    def cost() -> list[float]:
        taken = []
        for number in range(2000):
            before = time.thread_time()
            server.publish("t", {"n": number, "filler": "x" * 200})
            taken.append(time.thread_time() - before)
        return sorted(taken)

    alone = cost()
    readers, silent = [], []
    try:
        for at in range(2000):
            client = connect(server, receive_buffer=4096 if at % 4 == 0 else 0)
            subscribe(client, "t")
            (silent if at % 4 == 0 else readers).append(client)
        memory = resource_kib()
        stopping = threading.Event()
        thread = threading.Thread(target=read_all, args=(readers, stopping))
        thread.start()
        crowded = cost()
        grown = resource_kib() - memory
        stopping.set()
        thread.join()
        median = statistics.median
        for name, values in (("alone", alone), ("2,000 subscribers", crowded)):
            line = f"{name}: median {median(values) * 1e6:.1f} us, 99 % {values[-20] * 1e6:.1f} us"
            record_property(name, line)
        assert median(crowded) < 5 * median(alone) + 50e-6, "its own time does not grow with their number"
        assert grown < 200 * 1024, "memory is bounded by the log and a piece for each client that does not read"
        assert all(info.unsent_bytes < 128 * 1024 for info in server.connections())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resource_kib() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def read_all(clients: list[RawClient], stopping: threading.Event) -> None:
    import selectors

    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.sock.setblocking(False)
            selector.register(client.sock, selectors.EVENT_READ)
        while not stopping.is_set():
            for key, _ in selector.select(0.05):
                sock: Any = key.fileobj
                try:
                    sock.recv(1 << 16)
                except BlockingIOError:
                    pass


def test_a_slow_client_gets_everything_that_the_log_has_and_then_the_end(
    start: ServerFactory, connect: ClientFactory
) -> None:
    server = start(history_size=400_000, history_lag=0, write_stall=60.0)
    server.topic("t")
    slow, quick = connect(server, receive_buffer=4096), connect(server)
    for client in (slow, quick):
        subscribe(client, "t")
    text = "x" * 5000
    for number in range(1, 1001):
        server.publish("t", {"n": number, "text": text})
        if number % 20 == 0:
            assert [params["seq"] for params in events(quick, 20)] == list(range(number - 19, number + 1))
    last = 0
    while "error" not in (params := slow.answer()["params"]):
        assert params["seq"] == last + 1, "without a hole"
        last = params["seq"]
    assert params["error"]["code"] == -32007
    assert params["error"]["data"] == {"epoch": params["epoch"], "seq": last, "reason": "expired"}
    assert last < 1000
    assert subscribe(slow, "t")["seq"] == 1000
    server.publish("t", {"n": 1001})
    assert events(slow, 1)[0]["seq"] == 1001


def test_events_go_on_while_every_worker_is_stuck(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc = RpcTable()
    rpc.register("stuck", lambda: gate.wait(30), blocking=True)
    server = start(rpc, workers=4)
    client, other = connect(server), connect(server)
    subscribe(client)
    for at in range(10):
        other.request("stuck", id=at)
    for height in range(1, 20):
        server.publish("blocks", block(height))
    assert len(events(client, 19)) == 19


def test_publishing_from_a_handler_and_from_a_callback(start: ServerFactory, connect: ClientFactory) -> None:
    rpc = RpcTable()
    server: WebSocketServer | None = None

    @rpc.method
    def mine() -> str:
        assert server is not None
        server.publish("blocks", block(1))
        return "mined"

    server = start(rpc, on_connect=lambda session: server and server.publish("t", {"who": session.connection_id}))
    server.topic("t")
    client = connect(server)
    subscribe(client)
    client.request("mine")
    found = [client.answer(), client.answer()]
    assert {"mined", 1} == {answer.get("result") or answer["params"]["seq"] for answer in found}


def test_broadcast_reaches_all_and_says_how_many(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    clients = [connect(server) for _ in range(5)]
    wait_for(lambda: server.connection_count == 5)
    assert server.broadcast("hello") == 5
    assert server.broadcast(b"\x00\xff") == 5
    assert [client.frame() for client in clients for _ in range(2)] == [(1, b"hello"), (2, b"\x00\xff")] * 5


def test_events_before_start_and_after_stop(rpc: RpcTable, connect: ClientFactory) -> None:
    server = WebSocketServer(rpc)
    server.publish("blocks", block(1))
    with server:
        client = connect(server)
        epoch = client.call("topics")["result"][0]["epoch"]
        subscribe(client, since={"epoch": epoch, "seq": 0})
        assert events(client, 1)[0]["seq"] == 1
        client.close()
    server.publish("blocks", block(2))
    with server:
        again = connect(server)
        assert subscribe(again, since={"epoch": epoch, "seq": 1})["recovered"] is True
        assert events(again, 1)[0]["seq"] == 2
        again.close()
    with pytest.raises(NotRunningError):
        server.send(1, "x")
    with pytest.raises(EventError):
        server.publish("blocks", {})


# Answers that are not what the handler gave


def test_a_batch_that_times_out_has_the_subscriptions_in_its_answers(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc = RpcTable()
    rpc.register("stuck", lambda: gate.wait(30), blocking=True)
    server = start(rpc, call_timeout=0.2)
    client = connect(server)
    batch = [
        {"method": "subscribe", "params": ["blocks"], "id": 1},
        {"method": "stuck", "id": 2},
        {"method": "subscribe", "params": ["peers"], "id": 3},
    ]
    client.text(json.dumps(batch))
    first, *others = client.answer()
    assert first["result"]["subscription"] == "blocks"
    assert [code(answer) for answer in others] == [-32002, -32002]
    server.publish("blocks", block(1))
    assert events(client, 1)[0]["seq"] == 1
    gate.set()
    wait_for(lambda: server.connections()[0].in_flight == 0)
    wait_for(lambda: [one.stream.id for one in server.events.cursors.of(server.connections()[0].id)] == ["blocks"])


def test_a_reply_that_is_replaced_leaves_no_subscription(start: ServerFactory, connect: ClientFactory) -> None:
    rpc = RpcTable()
    rpc.register("long", lambda: "x" * 150)
    server = start(rpc, result_size=200)
    client = connect(server)
    client.text('[{"method":"long","id":1},{"method":"subscribe","params":["blocks"],"id":2}]')
    assert [code(answer) for answer in client.answer()] == [None, -32011]
    assert client.call("subscriptions")["result"] == []


def test_a_handler_that_outlives_a_stop_does_not_meet_a_stranger(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc, ids = RpcTable(), []

    @rpc.method(blocking=True)
    def slow(context: CallContext) -> int:
        ids.append(context.connection_id)
        gate.wait(20)
        return 1

    server = start(rpc)
    client = connect(server)
    client.text('[{"method":"slow","id":1},{"method":"subscribe","params":["blocks"],"id":2}]')
    wait_for(lambda: ids)
    server.stop(0.2)
    server.start()
    stranger = connect(server)
    assert stranger.call("topics")["id"] == 1
    assert server.connections()[0].id not in ids
    gate.set()
    assert subscribe(stranger)["subscription"] == "blocks"


# Rights


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "rpc_permissions.json"
    write_users(path, reader="readonly", spender="wallet", root="admin")
    return path


@pytest.fixture
def serve(rpc: RpcTable, users: Path) -> Iterator[ServerFactory]:
    servers: list[WebSocketServer] = []

    def serve(**options: Any) -> WebSocketServer:
        servers.append(WebSocketServer(rpc, make_config(users_file=str(users), **options)).start())
        return servers[-1]

    yield serve
    for server in servers:
        server.stop(2)


def test_each_topic_has_its_permission(serve: Callable[..., WebSocketServer], connect: ClientFactory) -> None:
    server = serve()
    server.topic("open", permission="READ_MINING")
    server.topic("control", permission="CONTROL_MINING")
    server.topic("undeclared")
    reader, root = log_in(server, "reader", connect), log_in(server, "root", connect)
    for topic, allowed in (("blocks", True), ("open", True), ("control", False), ("undeclared", False)):
        assert ("subscription" in subscribe(reader, topic)) is allowed
        assert "subscription" in subscribe(root, topic)
    assert {topic["topic"] for topic in reader.call("topics")["result"]} == {
        "blocks", "mempool", "peers", "mining", "open", "user/reader",
    }  # fmt: skip
    stranger = connect(server)
    assert code(subscribe(stranger)) == -32001


def test_losing_a_permission_ends_just_the_affected_subscriptions(
    serve: Callable[..., WebSocketServer], connect: ClientFactory, users: Path
) -> None:
    server = serve()
    server.topic("wallets", permission="WRITE_WALLET")
    spender, root = log_in(server, "spender", connect), log_in(server, "root", connect)
    for client in (spender, root):
        subscribe(client)
        subscribe(client, "wallets")
    write_users(users, spender="readonly", root="admin")
    assert server.reload()
    params = spender.answer()["params"]
    assert params["topic"] == "wallets"
    assert params["error"]["code"] == -32003
    server.publish("wallets", {"n": 1})
    server.publish("blocks", block(1))
    assert {params["topic"] for params in events(root, 2)} == {"wallets", "blocks"}
    assert events(spender, 1)[0]["topic"] == "blocks"
    assert [one["topic"] for one in spender.call("subscriptions")["result"]] == ["blocks"]


def test_a_removed_user_gets_no_more_events_while_a_call_of_his_runs(
    rpc: RpcTable, serve: Callable[..., WebSocketServer], connect: ClientFactory, users: Path, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(20), blocking=True, permission="READ_WALLET")
    server = serve()
    reader = log_in(server, "reader", connect)
    subscribe(reader)
    reader.request("wait", id="w")
    wait_for(lambda: server.connections()[0].in_flight)
    write_users(users, root="admin")
    assert server.reload()
    assert reader.answer()["params"]["error"]["code"] == -32003
    server.publish("blocks", block(1))
    gate.set()
    assert reader.answer()["id"] == "w"
    assert reader.close_frame()[0] == 4401


def test_messages_for_a_user_wait_while_he_is_away(
    serve: Callable[..., WebSocketServer], connect: ClientFactory
) -> None:
    server = serve()
    reader = log_in(server, "reader", connect)
    reply = subscribe(reader, "user/reader")
    server.send_to_user("reader", {"n": 1})
    assert events(reader, 1)[0]["result"] == {"n": 1}
    reader.close()
    wait_for(lambda: server.connection_count == 0)
    server.send_to_user("reader", {"n": 2})
    again, root = log_in(server, "reader", connect), log_in(server, "root", connect)
    assert subscribe(again, "user/reader", since={"epoch": reply["epoch"], "seq": 1})["recovered"] is True
    assert events(again, 1)[0]["result"] == {"n": 2}
    assert code(subscribe(root, "user/reader")) == -32003
    again.request("authenticate", ["spender", "spenderspender"], id=7)
    messages = [again.answer(), again.answer()]  # the answer and the end of the subscription, in either order
    assert [message["result"]["user"] for message in messages if message.get("id") == 7] == ["spender"]
    ends = [message["params"]["error"]["code"] for message in messages if "params" in message]
    assert ends == [-32003], "another user now"


def test_a_client_that_never_reads_and_goes_leaves_nothing(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    server.topic("t")
    client = connect(server, receive_buffer=4096)
    subscribe(client, "t")
    for _ in range(2000):
        server.publish("t", {"filler": "x" * 1000})
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    wait_for(lambda: not server.events.cursors.all())
    wait_for(lambda: all(shard.is_empty for shard in server.events.shards))
    assert not server.events.topic("t").in_use
