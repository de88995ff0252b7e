"""Attacks on a server: each a function that runs until its time is over. Loopback only.

An attack is what one hostile client, or a few, can do with little effort. `benchmarks.abuse` runs each one in a process
of its own beside honest clients. Those that need a login are the readonly user `reader`.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable

__all__ = ["ATTACKS", "Target"]

_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
_UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + _KEY
_MEBIBYTE = 1 << 20


class Target:
    """The attacked server.

    Args:
        port: its port.
        seconds: how long an attack lasts.
        host: the address that attacks come from.
    """

    def __init__(self, port: int, seconds: float, host: str) -> None:
        self.port = port
        self.host = host
        self._until = time.monotonic() + seconds
        self.sent = 0  # bytes

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._until

    def connect(self) -> socket.socket:
        """Return a connection."""
        sock = socket.socket()
        sock.settimeout(2.0)
        sock.bind((self.host, 0))
        sock.connect(("127.0.0.1", self.port))
        return sock

    def request(self, head: bytes, user: str = "") -> bytes:
        """Return the head of a request; with a user, its password is the name, doubled."""
        if user:
            head += b"Authorization: Basic " + base64.b64encode(f"{user}:{user}{user}".encode()) + b"\r\n"
        return head + b"\r\n"

    def websocket(self, user: str = "", extra: bytes = b"") -> socket.socket:
        """Return a connection after its upgrade."""
        sock = self.connect()
        sock.sendall(self.request(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + _UPGRADE + extra, user))
        sock.recv(65536)
        return sock

    def flood(
        self, sockets: list[socket.socket], data: bytes, renew: Callable[[], socket.socket] | None = None
    ) -> None:
        """Send the same bytes over connections, as fast as they are accepted; read and drop what comes back.

        Args:
            sockets: the connections.
            data: what to send.
            renew: returns a connection in place of one that the server has closed.
        """
        rest = dict.fromkeys(sockets, b"")
        for sock in sockets:
            sock.setblocking(False)
        while rest and not self.is_over:
            readable, writable, _ = select.select(list(rest), list(rest), [], 0.1)
            for sock in {*readable, *writable}:
                try:
                    if sock in readable and not sock.recv(1 << 20):
                        raise ConnectionResetError
                    if sock in writable:
                        piece = rest[sock] or data
                        count = sock.send(piece)
                        rest[sock] = piece[count:]
                        self.sent += count
                except BlockingIOError:
                    continue
                except OSError:
                    sock.close()
                    del rest[sock]
                    if renew is not None:
                        with contextlib.suppress(OSError):
                            fresh = renew()
                            fresh.setblocking(False)
                            rest[fresh] = b""

    def hold(self, sockets: list[socket.socket], drip: bytes = b"") -> None:
        """Keep connections open, and send a byte of `drip` to each every tenth of a second."""
        for at in itertools.cycle(range(max(1, len(drip)))):
            if self.is_over:
                return
            for sock in sockets:
                with contextlib.suppress(OSError):
                    self.sent += sock.send(drip[at : at + 1]) if drip else 0
            time.sleep(0.1)


def _frame(opcode: int, payload: bytes, *, fin: bool = True, deflated: bool = False) -> bytes:
    first = (0x80 if fin else 0) | (0x40 if deflated else 0) | opcode
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, size)
    return header + b"\0\0\0\0" + payload  # masked with zeros


def _call(method: str, *params: object, id: object = 1) -> bytes:
    return _frame(1, json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).encode())


def _many(target: Target, count: int, user: str = "") -> list[socket.socket]:
    return [target.websocket(user) for _ in range(count)]


_MEMBERS = b'{"method":"x",' + b",".join(b'"%d":{}' % number for number in range(160_000)) + b"}"
_CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nTransfer-Encoding: chunked\r\n"
_FRAGMENTS = _frame(0, b"", fin=False) * 5000


def _messages(data: bytes, count: int, user: str = "") -> Callable[[Target], None]:
    """Return the attack that floods the server with these bytes over WebSockets."""

    def attack(target: Target) -> None:
        target.flood(_many(target, count, user), data, lambda: target.websocket(user))

    return attack


def _requests(head: bytes, count: int, user: str = "", times: int = 20) -> Callable[[Target], None]:
    """Return the attack that repeats a request over connections that are kept."""

    def attack(target: Target) -> None:
        data = target.request(head, user) * times
        target.flood([target.connect() for _ in range(count)], data, target.connect)

    return attack


def _fragments(user: str) -> Callable[[Target], None]:
    def attack(target: Target) -> None:
        def start() -> socket.socket:
            sock = target.websocket(user)
            sock.sendall(_frame(1, b"x", fin=False))
            return sock

        target.flood([start() for _ in range(6)], _FRAGMENTS, start)

    return attack


def _chunks(user: str) -> Callable[[Target], None]:
    def attack(target: Target) -> None:
        def start() -> socket.socket:
            sock = target.connect()
            sock.sendall(target.request(_CHUNKED, user))
            return sock

        target.flood([start() for _ in range(8)], b"1\r\nx\r\n" * 5000, start)

    return attack


def _hold_half_messages(target: Target) -> None:
    sockets = []
    with contextlib.suppress(OSError):
        for _ in range(900):
            sock = target.websocket()
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                target.sent += sock.send(_frame(1, b"x" * 2 * _MEBIBYTE)[: 2 * _MEBIBYTE - 9])
            sockets.append(sock)
    target.hold(sockets)


def _slow_heads(target: Target) -> None:
    target.hold([target.connect() for _ in range(200)], b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1000)


def _slow_bodies(target: Target) -> None:
    sockets = [target.connect() for _ in range(100)]
    for sock in sockets:
        sock.sendall(target.request(_CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 9999"), "reader"))
    target.hold(sockets, b"x" * 9999)


def _wait_on_threads(target: Target) -> None:
    sockets = _many(target, 5, "reader")
    for sock, number in itertools.product(sockets, range(20)):
        sock.sendall(_call(f"wait{number % 3}", id=number))
    target.hold(sockets)


def _filters(target: Target) -> None:
    def start() -> socket.socket:
        return target.websocket("reader")

    wanted = {"address": ["\N{PILE OF POO}" + "x" * 15_000]}
    data = b"".join(
        _frame(
            1, json.dumps({"method": "subscribe", "params": {"topic": "mempool", "filter": wanted}, "id": 1}).encode()
        )
        for _ in range(128)
    )
    target.flood([start() for _ in range(8)], data, start)


def _wrong_passwords(head: bool) -> Callable[[Target], None]:
    def attack(target: Target) -> None:
        for number in itertools.count():
            if target.is_over:
                return
            with contextlib.suppress(OSError):
                if head:
                    guess = base64.b64encode(b"reader:guess%d" % number)
                    sock = target.websocket("", b"Authorization: Basic " + guess + b"\r\n")
                else:
                    sock = target.websocket()
                    sock.sendall(_call("authenticate", "reader", f"guess{number}"))
                sock.close()

    return attack


def _churn(target: Target) -> None:
    while not target.is_over:
        with contextlib.suppress(OSError):
            target.websocket().close()


def _resets(target: Target) -> None:
    """Connect, send a part of a request, and reset."""
    for size in itertools.cycle(range(1, 100, 7)):
        if target.is_over:
            return
        with contextlib.suppress(OSError):
            sock = target.connect()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.send((b"GET / HTTP/1.1\r\nHost: localhost\r\n" + _UPGRADE)[:size])
            sock.close()


def _bombs(target: Target) -> None:
    compressor = zlib.compressobj(9, wbits=-12)
    payload = compressor.compress(b" " * (2 * _MEBIBYTE - 100)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"

    def start() -> socket.socket:
        return target.websocket("reader", offer)

    target.flood([start() for _ in range(4)], _frame(1, payload[:-4], deflated=True) * 4, start)


def _silent_subscribers(target: Target) -> None:
    """Ask for much and read nothing."""
    sockets = _many(target, 20, "reader")
    for sock in sockets:
        sock.setblocking(False)
    while not target.is_over:
        for sock in sockets:
            with contextlib.suppress(OSError):
                target.sent += sock.send(_call("large") * 20)
        time.sleep(0.01)


def _msgpack() -> bytes:
    return _frame(2, b"\x82\xa6method\xa1x\xa6params\xdc\x0f\x00" + b"\x80" * 0x0F00)


def _packed(target: Target) -> None:
    def start() -> socket.socket:
        return target.websocket("", b"Sec-WebSocket-Protocol: dilithion.v1+msgpack\r\n")

    target.flood([start() for _ in range(6)], _msgpack() * 8, start)


ATTACKS: dict[str, Callable[[Target], None]] = {
    "members": _messages(_frame(1, _MEMBERS), 4),
    "members-user": _messages(_frame(1, _MEMBERS), 4, "reader"),
    "fragments": _fragments(""),
    "fragments-user": _fragments("reader"),
    "pings": _messages(_frame(9, b"") * 5000, 6),
    "pongs": _messages(_frame(10, b"") * 5000, 6, "reader"),
    "small-calls": _messages(_call("getblockcount") * 500, 6),
    "small-calls-user": _messages(_call("getblockcount") * 500, 6, "reader"),
    "chunks": _chunks(""),
    "chunks-user": _chunks("reader"),
    "half-messages": _hold_half_messages,
    "slow-heads": _slow_heads,
    "slow-bodies": _slow_bodies,
    "waiting-calls": _wait_on_threads,
    "openrpc": _requests(b"GET /openrpc.json HTTP/1.1\r\nHost: localhost\r\n", 4, "reader"),
    "discover": _messages(_call("rpc.discover") * 50, 4, "reader"),
    "metrics": _requests(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n", 4, "reader"),
    "page": _requests(b"GET / HTTP/1.1\r\nHost: localhost\r\n", 8),
    "health": _requests(b"GET /health HTTP/1.1\r\nHost: localhost\r\n", 8),
    "not-found": _requests(b"GET /x HTTP/1.1\r\nHost: localhost\r\n", 8),
    "large-heads": _requests(b"GET /x HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 2500, 8),
    "filters": _filters,
    "wrong-passwords": _wrong_passwords(True),
    "wrong-logins": _wrong_passwords(False),
    "right-logins": _messages(_call("authenticate", "reader", "readerreader") * 50, 4, "reader"),
    "churn": _churn,
    "resets": _resets,
    "bombs": _bombs,
    "batches": _messages(_frame(1, b"[" + b",".join([b"5"] * 100) + b"]") * 50, 4, "reader"),
    "batches-unknown": _messages(_frame(1, b"[" + b",".join([b'{"method":"x","id":1}'] * 100) + b"]"), 4, "reader"),
    "nesting": _messages(_frame(1, b"[" * 1_000_000), 4, "reader"),
    "large-ids": _messages(_frame(1, b'{"method":"x","id":"' + b"y" * 1_000_000 + b'"}'), 4, "reader"),
    "msgpack": _packed,
    "silent": _silent_subscribers,
    "garbage": lambda target: target.flood([target.connect() for _ in range(8)], os.urandom(65536), target.connect),
}
"""By name."""
