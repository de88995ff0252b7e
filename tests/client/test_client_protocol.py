"""One connection of a client without a socket: upgrade, messages, and all ways in which it ends."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from dilithion_ws.client import ConnectionLostError, Position, PositionStore, RefusedError
from dilithion_ws.client.client_protocol import ClientProtocol
from dilithion_ws.client.connection_options import ConnectionOptions

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@pytest.fixture
def protocol() -> ClientProtocol:
    return ClientProtocol(ConnectionOptions("ws://node.example:8333", ("alice", "secret"), None, 1.0, 1.0, 100))


def accept(protocol: ClientProtocol) -> None:
    """Answer the upgrade as a server does (RFC 6455 section 4.2.2)."""
    request = protocol.upgrade_request()
    (key,) = re.findall(rb"Sec-WebSocket-Key: (\S+)", request)
    answer = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    protocol.receive_data(head + answer + b"\r\nSec-WebSocket-Protocol: dilithion.v1\r\n\r\n")


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    return bytes((opcode | (0x80 if fin else 0), len(payload))) + payload


def test_messages_are_put_together(protocol: ClientProtocol) -> None:
    accept(protocol)
    assert protocol.is_open
    assert protocol.receive_data(frame(1, b"a", fin=False)).messages == []
    assert protocol.receive_data(frame(0, b"b")).messages == ["ab"]
    assert protocol.receive_data(frame(2, b"\x01\x02")).messages == [b"\x01\x02"]


def test_a_ping_is_answered(protocol: ClientProtocol) -> None:
    accept(protocol)
    reply = protocol.receive_data(frame(9, b"hello")).reply
    assert reply[0] == 0x8A


def test_a_message_that_is_too_large_ends_the_connection(protocol: ClientProtocol) -> None:
    accept(protocol)
    assert protocol.receive_data(frame(1, b"x" * 101)).messages == []
    assert protocol.is_closed
    assert protocol.close_reason == "a message is larger than 100 bytes (max_message_size)"


def test_a_close_frame_is_answered_and_remembered(protocol: ClientProtocol) -> None:
    accept(protocol)
    received = protocol.receive_data(frame(8, b"\x03\xe9bye"))
    assert received.reply[0] == 0x88
    assert (protocol.is_closed, protocol.close_code, protocol.close_reason) == (True, 1001, "bye")
    with pytest.raises(ConnectionLostError, match="the connection is closed"):
        protocol.encode("{}")


def test_the_answer_to_the_client_s_own_close_frame_is_not_answered(protocol: ClientProtocol) -> None:
    accept(protocol)
    assert protocol.close()[0] == 0x88
    assert protocol.close() == b""
    assert protocol.receive_data(frame(8, b"\x03\xe8")).reply == b""
    assert protocol.close_code == 1000


def test_a_malformed_frame_ends_an_open_connection(protocol: ClientProtocol) -> None:
    accept(protocol)
    protocol.receive_data(b"\x83\x00")
    assert protocol.is_closed
    assert protocol.close_reason


def test_what_is_not_http_is_not_a_server(protocol: ClientProtocol) -> None:
    protocol.upgrade_request()
    with pytest.raises(ConnectionLostError, match="does not speak WebSocket"):
        protocol.receive_data(b"SSH-2.0-test\r\n\r\n")


def test_the_end_of_the_stream_is_a_loss(protocol: ClientProtocol) -> None:
    protocol.upgrade_request()
    with pytest.raises(ConnectionLostError, match="does not speak WebSocket"):
        protocol.receive_data(b"")


def test_the_end_of_an_open_connection_is_noticed(protocol: ClientProtocol) -> None:
    accept(protocol)
    protocol.receive_data(b"")
    assert (protocol.is_closed, protocol.close_code) == (True, 1006)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nbody",
        b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n" + b"x" * 600,
    ],
)
def test_a_refusal_is_final(protocol: ClientProtocol, answer: bytes) -> None:
    protocol.upgrade_request()
    with pytest.raises(RefusedError):
        protocol.receive_data(answer)


def test_a_refusal_whose_body_is_cut_off_is_final(protocol: ClientProtocol) -> None:
    protocol.upgrade_request()
    protocol.receive_data(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 40\r\n\r\ncut")
    with pytest.raises((RefusedError, ConnectionLostError)):
        protocol.receive_data(b"")


def test_places_that_cannot_be_saved_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PositionStore(tmp_path / "places.json")
    store.save("blocks", Position("e", 1))

    def fail(*arguments: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        store.save("blocks", Position("e", 2))
    assert [path.name for path in tmp_path.iterdir()] == ["places.json"]
    assert store.load("blocks") == Position("e", 1)
