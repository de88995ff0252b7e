"""A codec of the host runs in workers, never in the leading thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import RpcTable, Session, WebSocketServer
from dilithion_ws.net.loop_ownership import LoopOwnership

from ..support import REQUEST, RawClient, wait_for
from ..support.accounts import basic, write_users
from ..support.configs import make_config
from ..support.fixtures import ClientFactory


class Recording:
    """JSON as it is. Records whether the leading thread ran it."""

    binary = False

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.ownership: LoopOwnership | None = None
        self.by_leader: list[str] = []
        self.held = b""
        self.is_held = False
        self.broken = b""

    def encode(self, data: bytes) -> bytes:
        self._record("encode")
        if self.held and self.held in data:
            self.is_held = True
            self.gate.wait(20)
        if self.broken and self.broken in data:
            raise ValueError("it can't be encoded")
        return data

    def decode(self, data: bytes) -> bytes:
        self._record("decode")
        return data

    def _record(self, what: str) -> None:
        ownership = self.ownership
        assert ownership is not None
        if ownership._reactor.leader == threading.get_ident():
            self.by_leader.append(what)


Serve = Callable[..., tuple[WebSocketServer, Recording]]


@pytest.fixture
def serve(rpc: RpcTable, gate: threading.Event) -> Iterator[Serve]:
    servers: list[WebSocketServer] = []

    def serve(**options: Any) -> tuple[WebSocketServer, Recording]:
        codec = Recording(gate)
        server = WebSocketServer(rpc, make_config(**options))
        server.subprotocol("recording.v1", codec)
        servers.append(server.start())
        codec.ownership = server._running.transport._watchdog._loop.ownership  # type: ignore[union-attr]
        return server, codec

    yield serve
    gate.set()
    for server in servers:
        server.stop(2.0)


def upgrade(client: RawClient) -> RawClient:
    client.upgrade(REQUEST[:-2] + b"Sec-WebSocket-Protocol: recording.v1\r\n\r\n")
    return client


def test_calls_errors_and_batches_are_encoded_by_workers(serve: Serve, connect: ClientFactory) -> None:
    server, codec = serve()
    client = upgrade(connect(server, upgrade=False))
    assert client.call("add", 1, 2)["result"] == 3
    assert client.call("nosuch")["error"]["code"] == -32601
    client.text("{")
    assert client.answer()["error"]["code"] == -32700
    client.text(json.dumps([{"method": "add", "params": [at], "id": at} for at in range(3)]))
    assert [answer["result"] for answer in client.answer()] == [2, 3, 4]
    assert codec.by_leader == []


def test_rates_and_deadlines_are_answered_by_workers(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    server, codec = serve(call_timeout=0.2, limit_loopback=True, message_burst=5, message_rate=0.01, queue=0)
    client = upgrade(connect(server, upgrade=False))
    client.request("stuck", id=1)
    assert client.answer()["error"]["code"] == -32002
    found = {client.call("getblockcount", id=at).get("error", {}).get("code") for at in range(8)}
    assert -32005 in found
    assert codec.by_leader == []


def test_a_codec_that_blocks_holds_up_nobody_else(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    """Not even with an error for a deadline."""
    handler = threading.Event()
    rpc.register("stuck", lambda: handler.wait(20), blocking=True)
    server, codec = serve(call_timeout=0.2)
    codec.held = b"-32002"
    client = upgrade(connect(server, upgrade=False))
    client.request("stuck", id=1)
    wait_for(lambda: codec.is_held)
    other = connect(server)
    for at in range(20):
        assert other.call("add", at)["result"] == at + 2
    gate.set()
    assert client.answer()["error"]["code"] == -32002
    handler.set()
    assert client.call("add", 1, id=2)["id"] == 2, "the late result is dropped"
    wait_for(lambda: [info.in_flight for info in server.connections()] == [0, 0])
    assert codec.by_leader == []


def test_a_codec_that_is_slower_than_a_call_may_be_closes_the_connection(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    """A call without an answer, and without an end of the connection, would leave its client waiting."""
    handler = threading.Event()
    rpc.register("stuck", lambda: handler.wait(20), blocking=True)
    server, codec = serve(call_timeout=0.2)
    codec.held = b"-32002"
    client = upgrade(connect(server, upgrade=False))
    client.request("stuck", id=1)
    code, reason = client.close_frame()
    assert (code, "rpcwebsocketcalltimeout" in reason) == (1011, True)
    handler.set()


def test_an_answer_that_the_codec_cannot_encode_closes_the_connection(
    serve: Serve, connect: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    server, codec = serve()
    codec.broken = b"unencodable"
    client = upgrade(connect(server, upgrade=False))
    client.request("echo", ["unencodable"], id=1)
    assert client.close_frame()[0] == 1011
    assert "a codec can't encode an answer" in caplog.text
    assert connect(server).call("add", 1)["result"] == 3


def test_the_subscriptions_of_a_batch_that_times_out_are_delivered(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    server, codec = serve(call_timeout=0.3)
    client = upgrade(connect(server, upgrade=False))
    client.text('[{"method":"subscribe","params":["mining"],"id":1},{"method":"stuck","id":2}]')
    answers = client.answer()
    assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32002]
    server.publish("mining", {"kind": "stopped"})
    assert client.answer()["params"]["topic"] == "mining"
    gate.set()  # the late end of the call takes nothing back
    wait_for(lambda: not server.statistics().overdue_calls)
    server.publish("mining", {"kind": "stopped"})
    assert client.answer()["params"]["seq"] == 2
    assert codec.by_leader == []


def test_no_message_overtakes_a_login_while_an_answer_is_encoded(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event, tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    write_users(path, root="admin", reader="readonly")
    handler = threading.Event()
    rpc.register("stuck", lambda: handler.wait(20), blocking=True)
    rpc.register("spend", lambda: "spent", permission="WRITE_WALLET")
    server, codec = serve(users_file=str(path), call_timeout=0.5)
    client = connect(server, upgrade=False)
    request = basic("root")
    client.upgrade(request[:-2] + b"Sec-WebSocket-Protocol: recording.v1\r\n\r\n")
    codec.held = b"-32002"
    client.request("stuck", id=1)
    wait_for(lambda: codec.is_held)  # the error for its deadline is being encoded
    client.request("authenticate", ["reader", "readerreader"], id=2)
    client.request("spend", id=3)
    gate.set()
    found = {answer["id"]: answer for answer in (client.answer() for _ in range(3))}
    handler.set()
    assert found[2]["result"]["user"] == "reader"
    assert found[3]["error"]["code"] == -32003


def test_a_full_queue_is_refused_without_the_codec(connect: ClientFactory, gate: threading.Event) -> None:
    codec, entered = Recording(gate), threading.Event()

    def on_message(session: Session, message: Any) -> Any:
        entered.set()
        gate.wait(20)
        return NotImplemented

    server = WebSocketServer(None, make_config(workers=3, queue=0), on_message=on_message)
    server.subprotocol("recording.v1", codec)
    with server:
        codec.ownership = server._running.transport._watchdog._loop.ownership  # type: ignore[union-attr]
        clients = [upgrade(connect(server, upgrade=False)) for _ in range(2)]
        clients[0].request("getblockcount", id=1)
        assert entered.wait(10)
        assert clients[1].call("getblockcount")["error"]["code"] == -32009
        gate.set()
        assert codec.by_leader == []


def test_a_call_that_another_user_evicts_is_refused_without_the_codec(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event, tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    write_users(path, alice="admin", bob="admin")
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    server, codec = serve(users_file=str(path), workers=6, queue=4)

    def log_in(name: str) -> RawClient:
        client: RawClient = connect(server, upgrade=False)
        client.upgrade(basic(name)[:-2] + b"Sec-WebSocket-Protocol: recording.v1\r\n\r\n")
        return client

    alice, bob = log_in("alice"), log_in("bob")
    for at in range(8):
        alice.request("stuck", id=at)

    def waiting() -> bool:
        calls = server.statistics().jobs["calls"]
        return (calls.running, calls.queued) == (3, 4)  # one thread is kept for other users

    assert alice.answer()["error"]["code"] == -32009  # no place for the eighth
    wait_for(waiting)
    for at in range(2):
        bob.request("stuck", id=at)
    assert alice.answer()["error"]["code"] == -32009  # it gives way to the second one
    gate.set()
    assert codec.by_leader == []
