"""A codec of the host runs in workers, or in the leading thread as a supervised task."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.net.loop_ownership import LoopOwnership

from ..support import REQUEST, RawClient, wait_for
from ..support.configs import make_config
from ..support.fixtures import ClientFactory


class Recording:
    """JSON as it is. Records whether the leading thread ran it outside of a task."""

    binary = False

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.ownership: LoopOwnership | None = None
        self.outside: list[str] = []
        self.held = b""
        self.is_held = False

    def encode(self, data: bytes) -> bytes:
        self._record("encode")
        if self.held and self.held in data:
            self.is_held = True
            self.gate.wait(20)
        return data

    def decode(self, data: bytes) -> bytes:
        self._record("decode")
        return data

    def _record(self, what: str) -> None:
        ownership = self.ownership
        assert ownership is not None
        if ownership._reactor.leader == threading.get_ident() and ownership.task is None:
            self.outside.append(what)


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
    assert codec.outside == []


def test_rates_and_deadlines_are_answered_by_supervised_tasks(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    server, codec = serve(call_timeout=0.2, limit_loopback=True, message_burst=5, message_rate=0.01, queue=0)
    client = upgrade(connect(server, upgrade=False))
    client.request("stuck", id=1)
    assert client.answer()["error"]["code"] == -32002
    found = {client.call("getblockcount", id=at).get("error", {}).get("code") for at in range(8)}
    assert -32005 in found
    assert codec.outside == []


def test_a_codec_that_blocks_holds_up_nobody_else(
    serve: Serve, rpc: RpcTable, connect: ClientFactory, gate: threading.Event
) -> None:
    """Not even when the leader itself has to encode an error for a deadline."""
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
    assert codec.outside == []
