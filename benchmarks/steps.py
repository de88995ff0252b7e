"""Counts the bytecodes that the server executes for a call, an event or a broadcast to a client, and a connection.

    python -m benchmarks.steps [call | event | broadcast | connection | tls]

`tls` is a connection over TLS.

Times of single steps are noise on most machines, counts are not: they tell which functions a microsecond goes to, and
whether a change has made a path shorter. One bytecode takes about 25 ns on the machine of docs/performance.md, the C
functions that it calls included.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

_CALL = b'{"jsonrpc":"2.0","id":1,"method":"getblockcount","params":[]}'
_SUBSCRIBE = b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":["ticks"]}'
_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
_TIMES = 50
_SUBSCRIBERS = 40


class Counter:
    """Bytecodes by function, of all threads that are started after `install`, while `running`."""

    def __init__(self) -> None:
        self.running = False
        self.by_code: collections.Counter[CodeType] = collections.Counter()

    def install(self) -> None:
        threading.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode" and self.running:
            self.by_code[frame.f_code] += 1
        return self._trace


def _frame(payload: bytes) -> bytes:
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


def _connect(port: int, context: ssl.SSLContext | None = None) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    if context is not None:
        client = context.wrap_socket(client, server_hostname="localhost")
    login = base64.b64encode(b"bench:bench-password").decode()
    client.sendall(
        f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Authorization: Basic {login}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    assert b" 101 " in head, head
    return client


def _ask(client: socket.socket, payload: bytes) -> None:
    client.sendall(_frame(payload))
    assert b"result" in client.recv(4096)


def _make_certificate() -> tuple[dict[str, str], ssl.SSLContext]:
    """Settings of the server, and the context of a client that trusts it."""
    import trustme  # not part of the package's own requirements

    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.NamedTemporaryFile("wb", suffix=".pem", delete=False) as file:  # with mode 0600
        file.write(issued.private_key_and_cert_chain_pem.bytes())
    return {"certificate": file.name, "private_key": file.name}, context


def _count(what: str, counter: Counter) -> int:
    """Does it many times while the counter runs; returns how often."""
    rpc = RpcTable()
    rpc.register("getblockcount", lambda: 840_000)
    limits = Limits.from_names(leader_stall_timeout=10.0)  # traced code is slow: nothing is to be taken for a stall
    settings, context = _make_certificate() if what == "tls" else ({}, None)
    server = WebSocketServer(rpc, Config(port=0, user="bench", password="bench-password", limits=limits, **settings))
    server.topic("ticks", permission="READ_BLOCKCHAIN")
    step: Callable[[], None]
    with server:
        clients = [_connect(server.port, context) for _ in range(_SUBSCRIBERS if what in ("event", "broadcast") else 1)]
        for client in clients:
            _ask(client, _SUBSCRIBE if what == "event" else _CALL)

        def call() -> None:
            _ask(clients[0], _CALL)

        def event() -> None:
            server.publish("ticks", "x" * 200)
            for client in clients:
                assert client.recv(4096)

        def broadcast() -> None:
            server.broadcast("x" * 200)
            for client in clients:
                assert client.recv(4096)

        def connection() -> None:
            with _connect(server.port, context) as client:
                _ask(client, _CALL)
                client.sendall(_CLOSE)
                while client.recv(4096):
                    pass

        step = {"call": call, "event": event, "broadcast": broadcast}.get(what, connection)
        step()
        counter.running = True
        for _ in range(_TIMES):
            step()
        counter.running = False
        for client in clients:
            client.close()
    if settings:
        os.unlink(settings["private_key"])
    return _TIMES * len(clients)


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else "call"
    as_json = sys.argv[2:] == ["--json"]
    if what not in ("call", "event", "broadcast", "connection", "tls"):
        print(__doc__, file=sys.stderr)
        return 2
    counter = Counter()
    counter.install()
    times = _count(what, counter)
    total = sum(counter.by_code.values())
    if as_json:
        print(json.dumps(total / times))
        return 0
    print(f"{total / times:.0f} bytecodes for one {what}; the functions with most of them:")
    for code, count in counter.by_code.most_common(40):
        print(
            f"{count / times:8.1f}  {os.path.basename(code.co_filename)}: {getattr(code, 'co_qualname', code.co_name)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
