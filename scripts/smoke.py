"""Checks a running server from outside: connect, call, batch, error, ping, fragments, close. One line a check."""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)


class CheckFailed(Exception):
    """A check found something else than it should have."""


class Client:
    """A WebSocket client on wsproto: as strict as can be had."""

    def __init__(self, url: str, timeout: float, ca: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise CheckFailed(f"{url!r} is no ws:// or wss:// URL")
        secure = parts.scheme == "wss"
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._sock = socket.create_connection((parts.hostname, parts.port or (443 if secure else 80)), timeout)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if secure:
            context = ssl.create_default_context(cafile=ca)
            self._sock = context.wrap_socket(self._sock, server_hostname=parts.hostname)
        self._events: list[Event] = []
        self.send(Request(host=parts.netloc, target=parts.path or "/"))
        accepted = self.receive()
        if isinstance(accepted, RejectConnection):
            raise CheckFailed(f"the upgrade was refused with HTTP {accepted.status_code}")
        expect(isinstance(accepted, AcceptConnection), f"101, not {accepted!r}")

    def send(self, event: Event) -> None:
        self._sock.sendall(self._ws.send(event))

    def receive(self) -> Event:
        while not self._events:
            data = self._sock.recv(65536)
            if not data:
                raise CheckFailed("the server ended the connection")
            self._ws.receive_data(data)
            self._events += self._ws.events()
        return self._events.pop(0)

    def message(self) -> Any:
        """The next message, read as JSON; pings are answered."""
        text = ""
        while True:
            event = self.receive()
            if isinstance(event, Ping):
                self.send(event.response())
            elif isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    return json.loads(text)
            elif isinstance(event, (BytesMessage, CloseConnection)):
                raise CheckFailed(f"an answer, not {event!r}")

    def call(self, message: Any) -> Any:
        self.send(TextMessage(data=json.dumps(message)))
        return self.message()

    def ends(self) -> bool:
        """Whether the server closes the TCP connection."""
        return self._sock.recv(1) == b""

    def close(self) -> None:
        self._sock.close()


def expect(holds: bool, what: str) -> None:
    """Fails the check where something does not hold."""
    if not holds:
        raise CheckFailed(f"expected {what}")


def check_login(client: Client, user: str) -> str:
    password = os.environ.get("DILITHION_RPCPASSWORD", "")
    answer = client.call({"method": "authenticate", "params": [user, password], "id": 0})
    expect("result" in answer, f"a login, got {answer.get('error')}")
    return f"{answer['result']['user']} with the role {answer['result']['role']}"


def check_call(client: Client) -> str:
    answer = client.call({"jsonrpc": "2.0", "method": "getblockcount", "params": [], "id": "smoke"})
    expect(answer.get("id") == "smoke" and isinstance(answer.get("result"), int), f"a height, got {answer}")
    return f"height {answer['result']}"


def check_batch(client: Client) -> str:
    calls = [{"jsonrpc": "2.0", "method": name, "id": at} for at, name in enumerate(("getblockcount", "getbalance"))]
    answers = client.call([*calls, {"jsonrpc": "2.0", "method": "getblockcount"}])
    expect([answer.get("id") for answer in answers] == [0, 1], f"answers 0 and 1, got {answers}")
    return "2 calls and a notification, 2 answers"


def check_error(client: Client) -> str:
    codes = []
    for message in (
        {"method": "no_such_method", "id": 1},
        {"method": "authenticate", "params": [1, 2, 3], "id": 2},
        5,
    ):
        codes.append(client.call(message)["error"]["code"])
    expect(codes == [-32601, -32602, -32600], f"-32601, -32602, -32600, got {codes}")
    return "unknown method, wrong params, no request"


def check_ping(client: Client) -> str:
    client.send(Ping(payload=b"smoke"))
    pong = client.receive()
    expect(isinstance(pong, Pong) and bytes(pong.payload) == b"smoke", f"a pong with the same payload, got {pong!r}")
    return "pong came back with the payload"


def check_fragments(client: Client) -> str:
    text = json.dumps({"method": "getblockcount", "id": 3})
    client.send(TextMessage(data=text[:10], message_finished=False))
    client.send(Ping(payload=b"between"))
    client.send(TextMessage(data=text[10:20], message_finished=False))
    client.send(TextMessage(data=text[20:], message_finished=True))
    pong = client.receive()
    expect(isinstance(pong, Pong), f"a pong first, got {pong!r}")
    expect(client.message()["id"] == 3, "the answer to the whole message")
    return "3 fragments around a ping"


def check_close(client: Client) -> str:
    client.send(CloseConnection(code=1000, reason="done"))
    answer = client.receive()
    expect(isinstance(answer, CloseConnection) and answer.code == 1000, f"close 1000, got {answer!r}")
    expect(client.ends(), "the end of the stream")
    return "1000 both ways, then the end of the stream"


CHECKS: list[tuple[str, Callable[[Client], str]]] = [
    ("call", check_call),
    ("batch", check_batch),
    ("error", check_error),
    ("ping and pong", check_ping),
    ("fragmented message", check_fragments),
    ("close handshake", check_close),
]


def main() -> int:
    """Runs the checks; returns the exit status: 0 where all held, 1 where one did not."""
    parser = argparse.ArgumentParser(prog="scripts/smoke", description=__doc__)
    parser.add_argument("--url", default="ws://127.0.0.1:8333", help="where the server listens (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for each step (default: %(default)s)")
    parser.add_argument("--ca", metavar="FILE", help="authority to trust for wss:// (PEM; default: the system's)")
    parser.add_argument("--user", help="log in first; the password is in DILITHION_RPCPASSWORD")
    options = parser.parse_args()
    checks = list(CHECKS)
    if options.user:
        checks.insert(0, ("login", lambda client: check_login(client, options.user)))
    try:
        client = Client(options.url, options.timeout, options.ca)
    except (OSError, CheckFailed) as error:
        print(f"FAILED connect: {error}")
        return 1
    print(f"ok     connect: {options.url}")
    failed = 0
    for name, check in checks:
        started = time.perf_counter()
        try:
            outcome = check(client)
        except (OSError, CheckFailed, KeyError, TypeError, ValueError) as error:
            print(f"FAILED {name}: {error}")
            failed += 1
        else:
            print(f"ok     {name}: {outcome} ({(time.perf_counter() - started) * 1000:.1f} ms)")
    client.close()
    print(f"{len(checks) + 1 - failed} of {len(checks) + 1} checks held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
