"""Handlers of every temper: none may stall another client, or cost a worker."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from dilithion_ws import CallContext, RpcTable
from dilithion_ws.protocol.frames import PING, PONG, TEXT

from ..support import RawClient, client_frame, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import request


def answers(client: RawClient, count: int) -> dict[Any, Any]:
    """That many answers, by id."""
    found = [client.answer() for _ in range(count)]
    return {answer["id"]: answer for answer in found}


def test_a_browser_without_pings_can_call_one(start: ServerFactory, connect: ClientFactory) -> None:
    assert connect(start()).call("rpc.ping")["result"] is True


def test_many_calls_in_one_packet_are_answered_in_order(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start())
    client.send(
        b"".join(
            client_frame(TEXT, json.dumps({"method": "add", "params": [at], "id": at}).encode()) for at in range(500)
        )
    )
    assert [client.answer() for _ in range(500)] == [
        {"jsonrpc": "2.0", "result": at + 2, "id": at} for at in range(500)
    ]


@pytest.mark.parametrize("is_brief", [True, False])
def test_calls_of_brief_methods_are_not_refused_while_workers_are_free(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event, is_brief: bool
) -> None:
    """One client has a share of two of six threads, and nothing may wait in the queue."""

    @rpc.method(blocking=True)
    def work(waits: bool) -> str:
        if waits:
            gate.wait()
        return "done"

    server = start(workers=8, calls_per_user=2, queue=0, limit_loopback=True, method_rates=("work=100/1",))
    client = connect(server)
    if is_brief:
        for _ in range(10):
            assert client.call("work", False)["result"] == "done"
    for at in range(7):
        client.request("work", [True], at)
    refused = [client.answer()["error"]["code"] for _ in range(1 if is_brief else 5)]
    assert set(refused) == {-32009}
    gate.set()
    assert {answer["result"] for answer in answers(client, 7 - len(refused)).values()} == {"done"}


def test_a_call_in_a_binary_frame_is_answered_in_text(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start())
    client.send(client_frame(2, b'{"method":"getblockcount","id":1}'))
    assert client.frame() == (TEXT, b'{"jsonrpc":"2.0","result":840000,"id":1}')


@pytest.mark.parametrize("ids", [b'"12"', b'"1abc"', rb'"a\"b"', b"18446744073709551615", b"1.50", b'"-"', b"null"])
def test_the_ids_that_the_node_garbles(start: ServerFactory, connect: ClientFactory, ids: bytes) -> None:
    client = connect(start())
    client.send(client_frame(TEXT, b'{"method":"getblockcount","id":%b}' % ids))
    assert client.message() == b'{"jsonrpc":"2.0","result":840000,"id":%b}' % ids


def test_methods_can_be_added_and_removed_while_serving(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable
) -> None:
    client = connect(start())
    assert client.call("late")["error"]["code"] == -32601
    rpc.register("late", lambda: "here")
    assert client.call("late")["result"] == "here"
    rpc.unregister("late")
    assert client.call("late")["error"]["code"] == -32601


def test_sixteen_handlers_that_block_for_ever(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """The promise of the design: whatever handlers do, other clients are served, and stop() keeps its deadline."""
    rpc.register("block", lambda: gate.wait(60))
    server = start(queue=4, drain_timeout=0.5)
    blockers = [connect(server) for _ in range(16)]
    other = connect(server)
    for client in blockers:
        client.request("block")
    for _ in range(50):
        assert other.call("getblockcount")["result"] == 840000
    other.send(client_frame(PING, b"alive?"))
    assert other.frame() == (PONG, b"alive?")
    wait_for(lambda: sum(info.in_flight for info in server.connections()) == 16)
    more = connect(server)
    for at in range(20):
        more.request("block", id=at)
    busy = answers(more, 1)
    assert all(answer["error"]["code"] == -32009 for answer in busy.values())
    assert all(answer["error"]["data"]["retry_after_ms"] for answer in busy.values())
    assert "rpcwebsocketqueue" in next(iter(busy.values()))["error"]["message"]
    assert other.call("getblockcount")["result"] == 840000
    assert server.stop(1.0)


def test_different_methods_that_block_for_ever_on_every_worker(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    """No worker is left, and not even the leader's own method was known to be slow."""
    for at in range(8):
        rpc.register(f"block{at}", lambda: gate.wait(60))
    server = start(workers=4, queue=8)
    known = connect(server)
    known.call("getblockcount")
    clients = [connect(server) for _ in range(8)]
    for at, client in enumerate(clients):
        client.request(f"block{at}")
    for _ in range(20):
        assert known.call("getblockcount")["result"] == 840000
    known.send(client_frame(PING, b"?"))
    assert known.frame() == (PONG, b"?")
    gate.set()
    assert [client.answer()["result"] for client in clients] == [True] * 8


def test_a_known_fast_method_that_blocks_on_the_last_worker(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    """Then a thread in reserve leads: pings and methods declared fast go on, and all is well once a worker returns."""
    blocks = threading.Event()
    for at in range(5):
        rpc.register(f"m{at}", lambda: gate.wait(60) if blocks.is_set() else None)
    rpc.register("declared", lambda: "fast", blocking=False)
    server = start(workers=3, queue=8, login_workers=1, request_workers=1)
    client, other = connect(server), connect(server)
    for at in range(5):
        assert "result" in client.call(f"m{at}")
    blocks.set()
    for at in range(5):
        client.request(f"m{at}", id=at)
    wait_for(lambda: server.statistics().is_led_in_reserve, what="a thread in reserve leading")
    assert other.call("declared")["result"] == "fast"
    other.send(client_frame(PING, b"?"))
    assert other.frame() == (PONG, b"?")
    other.request("getblockcount", id=9)
    gate.set()
    assert set(answers(client, 5)) == {0, 1, 2, 3, 4}
    assert other.answer()["id"] == 9
    wait_for(lambda: not server.statistics().is_led_in_reserve)
    assert other.call("getblockcount")["result"] == 840000


def test_methods_declared_fast_that_block_after_all(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    """Each can be mistaken once, even where no worker is left; stop() keeps its deadline."""
    for at in range(6):
        rpc.register(f"liar{at}", lambda: gate.wait(60), blocking=False)
    rpc.register("honest", lambda: "fast", blocking=False)
    server = start(workers=3, queue=0)
    client = connect(server)
    for at in range(6):
        connect(server).request(f"liar{at}")
    for _ in range(10):
        assert client.call("honest")["result"] == "fast"
    assert server.stop(0.5)


def test_a_method_that_blocks_in_batches_is_found_out(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("block", lambda: gate.wait(60))
    server = start(workers=5)
    clients = [connect(server) for _ in range(6)]
    for client in clients:
        client.text('[{"method":"block","id":1}]')
    other = connect(server)
    for _ in range(20):
        assert other.call("getblockcount")["result"] == 840000
    assert server.statistics().idle_workers >= 1, "the spare worker is left"


def test_a_raw_message_left_to_rpc_times_out_like_a_call(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30))
    client = connect(start(call_timeout=0.2, on_message=lambda session, message: NotImplemented))
    client.request("wait", id=5)
    answer = client.answer()
    assert (answer["id"], answer["error"]["code"]) == (5, -32002)
    assert client.call("getblockcount")["result"] == 840000


def test_a_raw_message_that_never_ends_closes_its_connection(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    client = connect(start(call_timeout=0.2, on_message=lambda session, message: gate.wait(30)))
    client.text("x")
    code, reason = client.close_frame()
    assert (code, "rpcwebsocketcalltimeout" in reason) == (1011, True)


def test_a_slow_call_does_not_hold_up_its_own_connection(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30))
    client = connect(start())
    client.send(
        client_frame(TEXT, b'{"method":"getblockcount","id":1}')
        + client_frame(TEXT, b'{"method":"wait","id":2}')
        + client_frame(TEXT, b'{"method":"getblockcount","id":3}')
    )
    assert [client.answer()["id"] for _ in range(2)] == [1, 3]
    gate.set()
    assert client.answer() == {"jsonrpc": "2.0", "result": True, "id": 2}


def test_a_method_that_was_slow_goes_to_the_pool_at_once(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable
) -> None:
    threads: list[str] = []
    pause = threading.Event()

    def slow() -> None:
        threads.append(threading.current_thread().name)
        pause.wait(0.03)

    rpc.register("slow", slow)
    server = start()
    client = connect(server)
    for _ in range(3):
        client.call("slow")
    client.send(b"".join(client_frame(TEXT, b'{"method":"slow","id":%d}' % at) for at in range(5)))
    assert len(answers(client, 5)) == 5
    assert len(set(threads[3:])) == 5, "each in a thread of its own"


def test_at_most_max_in_flight_slow_calls_of_one_connection(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30), blocking=True)
    server = start(in_flight=3)
    client, other = connect(server), connect(server)
    for at in range(10):
        client.request("wait", id=at)
    wait_for(lambda: server.connections()[0].in_flight == 3)
    assert other.call("getblockcount")["result"] == 840000
    assert max(info.in_flight for info in server.connections()) == 3
    gate.set()
    assert set(answers(client, 10)) == set(range(10))


def test_a_call_that_times_out_is_answered_once(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    ended = threading.Event()

    def wait() -> str:
        gate.wait(30)
        ended.set()
        return "too late"

    rpc.register("pooled", wait, blocking=True)
    rpc.register("inline", wait)
    server = start(call_timeout=0.2)
    idle = server.statistics().idle_workers
    for method in ("pooled", "inline"):
        client = connect(server)
        client.request(method, id=method)
        error = client.answer()["error"]
        assert error["code"] == -32002
        assert "call timeout limit of 0.2 s (rpcwebsocketcalltimeout)" in error["message"]
        assert client.call("getblockcount", id=2)["id"] == 2
    # A thread of the pool is replaced. One that a call has taken from the leader is not.
    assert server.statistics().overdue_calls == 1
    wait_for(lambda: server.statistics().idle_workers == idle - 1)
    gate.set()
    assert ended.wait(5)
    assert client.call("getblockcount", id=3)["id"] == 3, "the late result is not sent"
    wait_for(lambda: not server.statistics().overdue_calls and server.statistics().idle_workers == idle)


def test_a_call_that_times_out_in_the_queue_is_never_run(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    runs: list[int] = []

    def wait(number: int) -> None:
        runs.append(number)
        gate.wait(30)

    rpc.register("wait", wait, blocking=True)
    server = start(workers=3, call_timeout=0.2, overdue_calls=0)
    client = connect(server)
    client.request("wait", [1], id=1)
    client.request("wait", [2], id=2)
    assert {number: answer["error"]["code"] for number, answer in answers(client, 2).items()} == {1: -32002, 2: -32002}
    assert server.statistics().jobs["calls"].queued == 0
    gate.set()
    wait_for(lambda: not server.statistics().jobs["calls"].running)
    assert runs == [1]


def test_a_method_may_have_a_timeout_of_its_own(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    def left(context: CallContext) -> float:
        return context.deadline.remaining()

    for name, timeout in (("declared", 50.0), ("configured", 50.0), ("usual", None)):
        rpc.register(name, left, timeout=timeout, blocking=True)
    rpc.register("short", lambda: gate.wait(30), timeout=0.2, blocking=True)
    server = start(method_timeouts=("configured=70",), call_timeout=20.0)
    client = connect(server)
    assert [round(client.call(name)["result"], -1) for name in ("declared", "configured", "usual")] == [50, 70, 20]
    batch = [{"method": name, "id": name} for name in ("short", "getblockcount")]
    client.request("short", id="alone")
    error = client.answer()["error"]
    assert error["code"] == -32002
    assert "limit of 0.2 s for short (rpcwebsocketmethodtimeouts)" in error["message"]
    status, _, body = request(server, "POST", "/", {"method": "short", "id": 1}, {"X-Dilithion-RPC": "1"})
    assert (status, json.loads(body)["error"]["code"]) == (200, -32002)
    client.text(json.dumps(batch[:1]))
    assert client.answer()[0]["error"]["code"] == -32002
    client.text(json.dumps(batch))  # the longest timeout is that of the batch
    gate.set()
    assert [answer["id"] for answer in client.answer()] == ["short", "getblockcount"]


def test_a_batch_with_a_slow_method_waits_in_the_pool(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(30), blocking=True)
    client = connect(start(call_timeout=0.3))
    items = [{"method": "getblockcount", "id": 1}, {"method": "wait", "id": 2}, {"method": "getblockcount", "id": 3}]
    client.text(json.dumps(items))
    assert client.call("getblockcount", id=9)["id"] == 9
    batch = client.answer()
    assert [(answer["id"], answer.get("error", {}).get("code")) for answer in batch] == [
        (1, None),
        (2, -32002),
        (3, -32002),
    ]


def huge() -> str:
    return "x" * 100_000_000


def recurse() -> Any:
    return recurse()


def leave() -> None:
    raise SystemExit(1)


@pytest.mark.parametrize("blocking", [None, True])
@pytest.mark.parametrize(
    ("function", "code"), [(huge, -32011), (recurse, -32603), (leave, -32603), (object, -32603)], ids=str
)
def test_faulty_handlers_cost_no_worker(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, function: Any, code: int, blocking: bool | None
) -> None:
    rpc.register("faulty", function, blocking=blocking)
    server = start(workers=4)
    idle = server.statistics().idle_workers
    client = connect(server)
    for _ in range(3):
        assert client.call("faulty")["error"]["code"] == code
    assert client.call("getblockcount")["result"] == 840000
    wait_for(lambda: server.statistics().idle_workers == idle)
    assert sum(thread.name.startswith("dilithion-ws_") and thread.is_alive() for thread in threading.enumerate()) >= 4


@pytest.mark.parametrize("blocking", [None, False, True])
def test_a_handler_may_call_back_into_the_server(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, blocking: bool | None
) -> None:
    def meddle(context: CallContext) -> Any:
        server.send(context.connection_id, "from the handler")
        reached = server.broadcast(b"to all")
        rpc.register("new", lambda: 1)
        rpc.unregister("new")
        return [reached, server.connection_count, [info.id for info in server.connections()]]

    rpc.register("meddle", meddle, blocking=blocking)
    server = start()
    client = connect(server)
    client.request("meddle")
    assert client.frame() == (TEXT, b"from the handler")
    assert client.frame() == (2, b"to all")
    assert client.answer()["result"][:2] == [1, 1]


def test_a_handler_may_close_its_own_connection(start: ServerFactory, connect: ClientFactory, rpc: RpcTable) -> None:
    def leave(context: CallContext) -> str:
        server.close_connection(context.connection_id, 4000, "as you wish")
        return "bye"

    rpc.register("leave", leave)
    server = start()
    client = connect(server)
    assert client.call("leave")["result"] == "bye"
    assert client.close_frame() == (4000, "as you wish")


def test_incidents_are_logged_and_not_sent(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("the database password is 1234")

    rpc.register("fail", fail)
    client = connect(start())
    with caplog.at_level(logging.ERROR, "dilithion_ws.rpc"):
        error = client.call("fail")["error"]
    assert "1234" not in json.dumps(error)
    assert f"incident {error['data']['incident']}" in caplog.text
    assert "1234" in caplog.text


def test_calls_from_many_clients_at_once(start: ServerFactory, rpc: RpcTable) -> None:
    pause = threading.Event()
    rpc.register("nap", lambda: pause.wait(0.005), blocking=True)
    server = start()
    failures: list[object] = []

    def work(number: int) -> None:
        try:
            with RawClient(server.port) as client:
                for at in range(40):
                    if at % 8 == 0:
                        client.request("nap", id=f"nap{at}")
                    client.request("add", [number, at], id=at)
                expected: dict[Any, Any] = {at: number + at for at in range(40)}
                expected |= {f"nap{at}": False for at in range(0, 40, 8)}
                got = answers(client, len(expected))
                assert {id: answer["result"] for id, answer in got.items()} == expected
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    wait_for(lambda: server.connection_count == 0)
