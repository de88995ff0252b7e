"""The client against a server that does what a test says, connection by connection."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dilithion_ws.client import CallTimeoutError, Client, ConnectionLostError, RefusedError
from dilithion_ws.client.connection_options import check_url
from dilithion_ws.protocol.frames import CLOSE, TEXT, encode_frame

from ..support import mask, wait_for

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Connection:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def _read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the client has disconnected")
            self.buffer += data
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def request(self) -> bytes:
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.sock.recv(65536)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def accept(self) -> None:
        head = self.request()
        key = next(
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        )
        answer = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        self.sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + answer + b"\r\n\r\n"
        )

    def message(self) -> Any:
        first, second = self._read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._read(2))
        key = self._read(4)
        payload = mask(self._read(size), key)
        if first & 0x0F == CLOSE:
            raise ConnectionError("the client has closed")
        return json.loads(payload)

    def send(self, message: Any) -> None:
        self.sock.sendall(encode_frame(TEXT, json.dumps(message).encode()))

    def answer(self, result: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": self.message()["id"], "result": result})

    def close(self, code: int, reason: str = "") -> None:
        self.sock.sendall(encode_frame(CLOSE, struct.pack("!H", code) + reason.encode()))


Script = Callable[[Connection], None]


class Server:
    """Runs one script for each connection, then accepts no more."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self.failures: list[Exception] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for script in self._scripts:
            sock, _ = self._listener.accept()
            sock.settimeout(10)
            with sock:
                try:
                    script(Connection(sock))
                except ConnectionError:
                    pass
                except Exception as failure:
                    self.failures.append(failure)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)
        assert self.failures == []


@pytest.fixture
def serve(client_class: type[Client]) -> Iterator[Callable[..., Client]]:
    servers: list[Server] = []
    clients: list[Client] = []

    def serve(*scripts: Script, **options: Any) -> Client:
        servers.append(Server(*scripts))
        options.setdefault("backoff", (0.01, 0.02))
        options.setdefault("timeout", 5.0)
        clients.append(client_class(servers[-1].url, **options))
        return clients[-1]

    yield serve
    for client in clients:
        client.close()
    for server in servers:
        server.close()


def answering(result: Any) -> Script:
    def script(connection: Connection) -> None:
        connection.accept()
        connection.answer(result)
        connection.message()  # until the client closes

    return script


def raw(data: bytes) -> Script:
    def script(connection: Connection) -> None:
        connection.request()
        connection.sock.sendall(data)

    return script


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_final(serve: Callable[..., Client], status: int) -> None:
    client = serve(raw(b"HTTP/1.1 %d No\r\nReason: not you\r\nContent-Length: 0\r\n\r\n" % status))
    for _ in range(2):
        with pytest.raises(RefusedError) as caught:
            client.call("m")
    assert caught.value.status == status


@pytest.mark.parametrize(
    "first",
    [
        raw(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n"),
        raw(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        raw(b"nonsense\r\n\r\n"),
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\xff\r\nConnection: Upgrade\r\n\r\n"),
        raw(b""),
    ],
    ids=["503", "no accept key", "no HTTP", "not ASCII", "closed"],
)
def test_other_failures_are_tried_again(serve: Callable[..., Client], first: Script) -> None:
    assert serve(first, answering(5)).call("m") == 5


def test_an_upgrade_that_is_not_answered_is_given_up(serve: Callable[..., Client]) -> None:
    def silent(connection: Connection) -> None:
        connection.request()
        connection.sock.recv(1)

    assert serve(silent, answering(6), connect_timeout=0.3).call("m") == 6


@pytest.mark.parametrize("data", [b"\x83\x00", encode_frame(2, b"\xff") + encode_frame(TEXT, b"{not json"), b""])
def test_a_lost_connection_is_made_again(serve: Callable[..., Client], data: bytes) -> None:
    def lost(connection: Connection) -> None:
        connection.accept()
        connection.message()
        connection.sock.sendall(data)

    client = serve(lost, answering(7))
    with pytest.raises(ConnectionLostError):
        client.call("m")
    assert client.call("m") == 7


def test_a_message_that_is_too_large_ends_the_connection(serve: Callable[..., Client]) -> None:
    def large(connection: Connection) -> None:
        connection.accept()
        connection.answer("x" * 2000)

    client = serve(large, answering(8), max_message_size=1000)
    with pytest.raises(ConnectionLostError):
        client.call("m")
    assert client.call("m") == 8


def test_a_close_for_good_is_final(serve: Callable[..., Client]) -> None:
    def removed(connection: Connection) -> None:
        connection.accept()
        connection.message()
        connection.close(4401, "this user has been removed")

    client = serve(removed)
    with pytest.raises(ConnectionLostError):
        client.call("m")
    with pytest.raises(RefusedError, match="this user has been removed"):
        client.call("m")


def test_what_is_not_an_answer_is_ignored(serve: Callable[..., Client]) -> None:
    def talkative(connection: Connection) -> None:
        connection.accept()
        id = connection.message()["id"]
        for message in ("hello", [1, "x"], {"id": 10**6, "result": 1}, {"id": "text", "result": 1}, {"method": "x"}):
            connection.send(message)
        connection.send({"method": "subscription", "params": {"subscription": "none", "seq": 1}})
        connection.send({"jsonrpc": "2.0", "id": id, "result": "right"})
        connection.message()

    assert serve(talkative).call("m") == "right"


def test_a_call_without_an_answer_times_out(serve: Callable[..., Client]) -> None:
    def silent(connection: Connection) -> None:
        connection.accept()
        connection.message()
        connection.message()

    with pytest.raises(CallTimeoutError, match="no answer to m in time"):
        serve(silent).call("m", timeout_=0.2)


def test_a_server_that_reads_nothing_ends_the_call(serve: Callable[..., Client]) -> None:
    released = threading.Event()

    def full(connection: Connection) -> None:
        connection.accept()
        released.wait(10)

    client = serve(full, answering(9))
    with pytest.raises((CallTimeoutError, ConnectionLostError)):
        client.call("m", "x" * 20_000_000, timeout_=0.5)
    released.set()
    wait_for(lambda: not client.is_connected)
    assert client.call("m") == 9


def test_a_silent_server_counts_as_lost(serve: Callable[..., Client]) -> None:
    def silent(connection: Connection) -> None:
        connection.accept()
        connection.message()
        connection.sock.recv(1)

    client = serve(silent, answering(10), idle_timeout=0.2)
    with pytest.raises(ConnectionLostError):
        client.call("m")
    assert client.call("m") == 10


def test_without_a_server_a_call_ends_in_time(client_class: type[Client]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = client_class(f"ws://127.0.0.1:{port}", timeout=0.3, backoff=(0.01, 0.02))
    with pytest.raises(ConnectionLostError, match="no connection to"):
        client.call("m")
    client.close()
    with pytest.raises(ConnectionLostError, match="the client is closed"):
        client.call("m")


def test_closing_ends_a_pause_between_two_attempts(client_class: type[Client]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = client_class(f"ws://127.0.0.1:{port}", timeout=0.2, backoff=(60.0, 60.0))
    with pytest.raises(ConnectionLostError):
        client.call("m")
    closer = threading.Thread(target=client.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()


@pytest.mark.parametrize("url", ["ws://user:pw@host", "http://host", "ws://", "ws://host:0", "ws://a b"])
def test_addresses_that_are_not_of_a_server(url: str) -> None:
    with pytest.raises(ValueError, match=r"address of a server") as caught:
        check_url(url)
    assert "pw" not in str(caught.value)
