"""What the tests share: a client that can break every rule, and waiting for conditions instead of sleeping."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws.protocol.frames import BINARY, CLOSE, PING, PONG, TEXT

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

SECRETS = ("hush", "alicealice", "readerreader", "spenderspender", "rootroot", "long enough", "YWxpY2U6")
"""Passwords, and the beginnings of encoded ones, that tests use: none may show in what the suite prints or logs."""

TEST_TIMEOUT = 60.0
"""Seconds after which pytest ends a test (pyproject.toml). Whatever takes a multiple of it does not happen in a test."""

REQUEST = (
    "GET / HTTP/1.1\r\n"
    "Host: localhost\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "\r\n"
).encode()


def mask(payload: bytes, key: bytes) -> bytes:
    """The plainest way to mask."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, key: bytes | None = b"\x12\x34\x56\x78"
) -> bytes:
    """A frame as a client sends it; `key` None leaves it unmasked, which no client may do."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size, bit = len(payload), 0 if key is None else 0x80
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (payload if key is None else key + mask(payload, key))


def wait_for(condition: Callable[[], Any], seconds: float = 10.0, what: str = "the condition") -> Any:
    """Waits until a condition is true and returns its value; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    turn = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        turn.wait(0.005)
    return value


class RawClient:
    """A WebSocket client over a plain socket: sends any bytes, and parses strictly."""

    def __init__(self, port: int, *, upgrade: bool = True, timeout: float = 10.0, receive_buffer: int = 0) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        self.buffer = b""
        try:
            self.sock.connect(("127.0.0.1", port))
            if upgrade:
                self.upgrade()
        except BaseException:
            self.sock.close()
            raise

    def upgrade(self, request: bytes = REQUEST) -> bytes:
        """Does the handshake; returns the response head."""
        self.send(request)
        head = self.head()
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert ACCEPT in head
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self) -> bytes:
        """A response head."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """A whole HTTP response: status, headers, body."""
        lines = self.head().decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        while len(self.buffer) < int(headers.get("content-length", 0)):
            self._more()
        return int(lines[0].split()[1]), headers, self.buffer

    def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Fails where a server may not send such a frame."""
        first, second = self.take(2)
        assert first & 0x70 == 0, "reserved bits"
        assert first & 0x80, "fragmented"
        assert second < 0x80, "a server masked a frame"
        size = second
        if size == 126:
            size = int.from_bytes(self.take(2), "big")
            assert size >= 126
        elif size == 127:
            size = int.from_bytes(self.take(8), "big")
            assert size >= 65536
        assert first & 0x0F in (TEXT, BINARY, CLOSE, PING, PONG)
        return first & 0x0F, self.take(size)

    def message(self) -> bytes:
        """The payload of the next data frame; pings are answered."""
        while True:
            opcode, payload = self.frame()
            if opcode == PING:
                self.send(client_frame(PONG, payload))
            elif opcode in (TEXT, BINARY):
                return payload
            elif opcode == CLOSE:
                raise AssertionError(f"closed: {payload!r}")

    def text(self, text: str) -> None:
        self.send(client_frame(TEXT, text.encode()))

    def request(self, method: str, params: Any = None, id: Any = 1) -> None:
        self.text(
            json.dumps({"jsonrpc": "2.0", "method": method, "params": [] if params is None else params, "id": id})
        )

    def answer(self) -> Any:
        return json.loads(self.message())

    def call(self, method: str, *params: Any, id: Any = 1) -> Any:
        """Calls and returns the whole answer."""
        self.request(method, list(params), id)
        return self.answer()

    def close_frame(self) -> tuple[int, str]:
        """Reads up to the close frame; returns its code (1005 where it has none) and reason."""
        while True:
            opcode, payload = self.frame()
            if opcode == CLOSE:
                return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")

    def at_end(self) -> bool:
        """Reads to the end of the stream; whether nothing came before it."""
        rest = self.buffer
        try:
            while data := self.sock.recv(65536):
                rest += data
        except ConnectionResetError:
            pass
        return not rest

    def take(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _more(self) -> None:
        data = self.sock.recv(1 << 20)
        if not data:
            raise EOFError("the server closed the connection")
        self.buffer += data

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_files() -> int:
    """Descriptors that this process has."""
    return len(os.listdir("/proc/self/fd"))


def sockets_of(port: int) -> int:
    """Connected sockets of this process that have a port at either end; of a connection to itself, both count."""
    inodes = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f"/proc/self/fd/{fd}").removeprefix("socket:[").rstrip("]"))
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    end = f":{port:04X}"
    return sum((end in row[1] or end in row[2]) and row[3] != "0A" and row[9] in inodes for row in rows)


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs Redis (apt-get install redis-server)"
)


def free_port() -> int:
    """Return a port on which no program listens at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """A Redis on a free port, with its file in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        keep = ["--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        self.process = subprocess.Popen(["redis-server", *options, *keep], stdout=subprocess.DEVNULL)
        import redis

        def answers() -> bool:
            try:
                with redis.Redis.from_url(self.url) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        wait_for(answers)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
