"""What the client does for wallets and bots: resume by block, follow, merge, remember, and say what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from dilithion_ws import RpcTable
from dilithion_ws.client import (
    AfterBlock,
    Client,
    ConnectionLostError,
    EventsLostError,
    Position,
    PositionStore,
    RefusedError,
    merged,
)
from dilithion_ws.devnode import DevNode

from ..support import free_port, wait_for
from ..support.commands import ROOT
from ..support.conformance import CUTS, ENDS, ChainServer, CuttingProxy, try_out
from ..support.devnode import serve_devnode
from ..support.fixtures import ServerFactory
from ..support.other_systems import WITHOUT
from ..support.subscriptions import block


@pytest.fixture
def node() -> DevNode:
    return DevNode(seed=4, mining=False)


class QueueLines:
    """The lines of a client in this process."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        events = self._client.follow_blocks(0)
        while True:
            try:
                for event in events:
                    self._lines.append(json.dumps(event.data))
                return
            except EventsLostError as error:
                self._lines.append(json.dumps({"error": str(error)}))

    def take(self) -> list[str]:
        count = len(self._lines)
        found, self._lines[:count] = self._lines[:count], []
        return found


@pytest.fixture(params=ENDS)
def chain_server(request: pytest.FixtureRequest) -> Iterator[ChainServer]:
    found = ENDS[request.param]()
    found.start()
    yield found
    found.close()


def test_whatever_happens_the_view_is_the_chain_at_last(client_class: type[Client], chain_server: ChainServer) -> None:
    proxy = CuttingProxy(chain_server.port)
    with client_class(
        f"ws://127.0.0.1:{proxy.port}", backoff=(0.005, 0.05), idle_timeout=2.0, max_queued_events=50
    ) as client:
        view = try_out(chain_server, proxy, QueueLines(client), CUTS)
    proxy.close()
    assert view.events > 110
    assert proxy.connections > CUTS / 4


def test_blocks_from_a_height(client_class: type[Client], node: DevNode) -> None:
    with serve_devnode(node) as server, client_class(server.url) as client:
        blocks = client.follow_blocks(100)
        first = blocks.get(10)
        assert (first.data["height"], first.seq, first.position) == (100, None, None)
        assert first.since == AfterBlock(100, first.data["hash"])
        again = client.follow_blocks(since=first.since) if blocks.close() is None else None
        assert again.get(10).data["height"] == 101


def test_what_the_log_has_dropped_comes_from_the_chain(client_class: type[Client], node: DevNode) -> None:
    port = free_port()
    with serve_devnode(node, port=port) as server, client_class(server.url, backoff=(0.01, 0.1)) as client:
        blocks = client.subscribe("blocks")
        node.generate(1, node.others.addresses[0])
        assert blocks.get(10).seq == 1
        server.stop(0.5)
        node.publish = lambda topic, event: None
        node.generate(5, node.others.addresses[0])
        with serve_devnode(node, port=port):
            heights = [blocks.get(10).data["height"] for _ in range(5)]
            node.generate(1, node.others.addresses[0])
            heights.append(blocks.get(10).data["height"])
    assert heights == list(range(node.chain.height - 5, node.chain.height + 1))


def test_a_payment_until_it_is_confirmed(client_class: type[Client], node: DevNode) -> None:
    with serve_devnode(node) as server, client_class(server.url) as client:
        tx, _ = node.others.build(node.wallet.new_address(), 5_000_000)
        node.submit(tx)
        events = client.follow_transaction(tx.txid, 2)
        assert next(events).data["kind"] == "seen"
        node.generate(3, node.others.addresses[0])
        assert [event.data["confirmations"] for event in events] == [1, 2]
        assert client.call("subscriptions") == []


def test_a_slow_reader_of_payments_misses_and_repeats_nothing(client_class: type[Client], node: DevNode) -> None:
    address, paid = node.wallet.new_address(), []
    with serve_devnode(node) as server, client_class(server.url, max_queued_events=3) as client:
        payments = client.subscribe("transactions", filter={"address": address, "confirmations": 1})
        for _ in range(6):
            for _ in range(5):
                tx, _ = node.others.build(address, 1_000_000)
                node.submit(tx)
                paid.append(tx.txid)
            node.generate(1, node.others.addresses[0])
        found: list[str] = []
        while len(found) < len(paid):
            event = payments.get(20)
            found += [event.data["txid"]] if event.data["kind"] == "confirmed" else []
    assert sorted(found) == sorted(paid)


def test_several_subscriptions_as_one(start: ServerFactory) -> None:
    server = start()
    with Client(server.url) as client:
        events = merged(client.subscribe("blocks"), client.subscribe("peers"))
        for at in range(1, 21):
            server.publish("blocks", block(at))
            server.publish("peers", {"kind": "connected", "id": at, "addr": "a", "inbound": True, "peers": at})
        found = [next(events) for _ in range(40)]
        assert [event.data["height"] for event in found if event.topic == "blocks"] == list(range(1, 21))
        assert [event.data["id"] for event in found if event.topic == "peers"] == list(range(1, 21))
        server.events.start_new_epoch("peers")
        with pytest.raises(EventsLostError):
            next(events)
        server.publish("blocks", block(21))
        assert next(events).data["height"] == 21
    assert list(events) == []


def test_places_are_kept_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "places"
    store = PositionStore(path)
    assert store.load("blocks") is None
    for place in (Position("e", 5), AfterBlock(7), AfterBlock(8, "ab")):
        store.save("blocks", place)
        assert PositionStore(path).load("blocks") == place
    store.save("mempool", Position("f", 1))
    assert json.loads(path.read_text()) == {
        "blocks": {"height": 8, "hash": "ab"},
        "mempool": {"epoch": "f", "seq": 1},
    }
    path.write_text("{")
    with pytest.raises(ValueError, match="is not a file of positions"):
        store.load("blocks")


def test_a_place_is_given_in_any_form(client_class: type[Client], start: ServerFactory) -> None:
    server = start()
    with client_class(server.url) as client:
        epoch, _ = server.events.topic("blocks").log.position
        server.publish("blocks", block(1))
        for place in (Position(epoch, 0), (epoch, 0), {"epoch": epoch, "seq": 0}):
            with client.subscribe("blocks", since=place) as blocks:
                assert blocks.get(10).seq == 1
        for wrong in ("x", 5, {"a": 1}, ("a",)):
            with pytest.raises(ValueError, match="is not a place to resume at"):
                client.subscribe("blocks", since=wrong)  # type: ignore[arg-type]


@dataclass
class Balance:
    amount: Decimal
    pending: bool


def test_results_have_types_and_all_digits(client_class: type[Client], start: ServerFactory, rpc: RpcTable) -> None:
    rpc.register("getbalance", lambda: {"amount": Decimal("0.10000000"), "pending": False})
    rpc.register("state", lambda: "s", position_of="mempool")
    rpc.register("named", lambda timeout, method, self: [timeout, method, self])
    with client_class(start(rpc).url) as client:
        assert str(client.call("getbalance")["amount"]) == "0.10000000"
        assert client.call("getbalance", as_=Balance) == Balance(Decimal("0.1"), False)
        with pytest.raises(msgspec.ValidationError):
            client.call("getbalance", as_=int)
        result, position = client.call_with_position("state")
        assert (result, position.seq) == ("s", 0)
        assert client.call_with_position("getbalance")[1] is None
        assert client.call("named", timeout=1, method="m", self="me") == [1, "m", "me"]
        assert client._core.open_calls == 0


def test_events_that_wait_are_bounded_by_bytes(client_class: type[Client], start: ServerFactory) -> None:
    server = start()
    server.topic("notes", permission="READ_BLOCKCHAIN")
    with client_class(server.url, max_queued_bytes=10_000) as client:
        notes = client.subscribe("notes")
        for at in range(50):
            server.publish("notes", {"at": at, "text": "x" * 1000})
        wait_for(lambda: not server.events.cursors.all(), 20, "the pause")
        assert notes._state.size < 20_000
        assert [notes.get(10).data["at"] for _ in range(50)] == list(range(50))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ws://127.0.0.1:1", "in time; last: can't connect to 127.0.0.1:1: Connection refused"),
        ("ws://no.such.host.invalid:80", "in time; last: can't connect to no.such.host.invalid:80: "),
    ],
)
def test_the_cause_is_told(client_class: type[Client], url: str, text: str) -> None:
    with (
        pytest.raises(ConnectionLostError) as caught,
        client_class(url, connect_timeout=0.5, backoff=(0.01, 0.1)) as client,
    ):
        client.call("getblockcount")
    assert text in str(caught.value)


def test_without_patience_the_first_failure_is_the_answer(client_class: type[Client]) -> None:
    with pytest.raises(ConnectionLostError, match=r"^can't connect to 127.0.0.1:1: Connection refused"):
        client_class("ws://127.0.0.1:1", wait_for_server=False).call("getblockcount")


def test_refusals_have_the_words_of_the_server(client_class: type[Client], start: ServerFactory) -> None:
    server = start(user="alice", password="alicealice")
    with (
        pytest.raises(RefusedError, match=r"401 .*") as caught,
        client_class(server.url, user="alice", password="wrong"),
    ):
        pass
    assert caught.value.status == 401
    assert len(str(caught.value)) > len("the server refused the connection: 401 ")


def test_tls_to_a_plain_port_says_so(client_class: type[Client], start: ServerFactory) -> None:
    url = start().url.replace("ws://", "wss://")
    with pytest.raises(ConnectionLostError, match="does not speak TLS"):
        client_class(url, wait_for_server=False).call("getblockcount")


FOLLOWER = """
import sys
from dilithion_ws.client import Client
with Client(sys.argv[1]) as client:
    print(client.call("getblockcount"))
    blocks = client.subscribe("blocks")
    client.call("publish")
    print(blocks.get(10).data["height"])
print(*(name for name in sys.modules if name.startswith("dilithion_ws.")))
"""


def test_it_runs_where_there_is_neither_poll_nor_resource(start: ServerFactory, rpc: RpcTable) -> None:
    server = start(rpc)
    rpc.register("publish", lambda: server.publish("blocks", block(7)))
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT["select only"] + FOLLOWER, server.url],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    count, height, modules = result.stdout.splitlines()
    assert (count, height) == ("840000", "7")
    rooms = {name.split(".")[1] for name in modules.split()}
    assert rooms <= {"client", "errors", "util", "_version"}
