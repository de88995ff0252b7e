"""Messages of clients with encodings of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dilithion_ws import WebSocketServer

from ..support import REQUEST, RawClient, client_frame
from ..support.fixtures import ClientFactory, ServerFactory

BINARY, TEXT = 2, 1
CALL = {"method": "getblockcount", "id": 1}

Answer = Callable[[int, bytes], Any]


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    return start()


def ask(server: WebSocketServer, protocol: str, opcode: int, payload: bytes) -> tuple[int, Any]:
    """Send one message in a subprotocol. Return the opcode of the answer, and its content."""
    with RawClient(server.port, upgrade=False) as client:
        client.upgrade(REQUEST[:-2] + f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n".encode())
        client.send(client_frame(opcode, payload))
        found, data = client.frame()
        return found, msgspec.msgpack.decode(data) if found == BINARY else msgspec.json.decode(data)


def test_messagepack_is_answered_in_messagepack(server: WebSocketServer) -> None:
    opcode, answer = ask(server, "dilithion.v1+msgpack", BINARY, msgspec.msgpack.encode(CALL))
    assert (opcode, answer["result"]) == (BINARY, 840000)


def test_json_in_a_text_frame_is_understood_beside_messagepack(server: WebSocketServer) -> None:
    opcode, answer = ask(server, "dilithion.v1+msgpack", TEXT, msgspec.json.encode(CALL))
    assert (opcode, answer["result"]) == (BINARY, 840000)


@pytest.mark.parametrize("payload", [b"\xc1", b"\x81"], ids=["no MessagePack", "cut off"])
def test_malformed_messagepack_is_a_parse_error(server: WebSocketServer, payload: bytes) -> None:
    _, answer = ask(server, "dilithion.v1+msgpack", BINARY, payload)
    assert (answer["error"]["code"], answer["id"]) == (-32700, None)


@pytest.mark.parametrize(
    ("payload", "code"),
    [(msgspec.json.encode(CALL), None), (b'{"method":"echo","params":["\xc3\xa4"],"id":1}', None), (b"\xff", -32700)],
    ids=["ASCII", "UTF-8", "not UTF-8"],
)
def test_json_in_a_binary_frame_is_understood(server: WebSocketServer, payload: bytes, code: int | None) -> None:
    _, answer = ask(server, "dilithion.v1", BINARY, payload)
    assert answer.get("error", {}).get("code") == code


def test_malformed_messages_beyond_the_rate_are_refused(start: ServerFactory) -> None:
    server = start(limit_loopback=True, message_burst=1, message_rate=0.001)
    with RawClient(server.port, upgrade=False) as client:
        client.upgrade(REQUEST[:-2] + b"Sec-WebSocket-Protocol: dilithion.v1+msgpack\r\n\r\n")
        for expected in (-32700, -32005):
            client.send(client_frame(BINARY, b"\xc1"))
            assert msgspec.msgpack.decode(client.frame()[1])["error"]["code"] == expected


def test_pings_beyond_the_rate_are_not_answered(start: ServerFactory) -> None:
    server = start(limit_loopback=True, message_burst=1, message_rate=0.001)
    with RawClient(server.port) as client:
        client.send(client_frame(9, b"a") + client_frame(9, b"b") + client_frame(8))
        assert client.frame() == (10, b"a")
        assert client.frame()[0] == 8


@pytest.mark.parametrize("text", ["[" * 200, '{"method":"x",' + ",".join(f'"{at}":0' for at in range(100)) + "}"])
def test_a_message_of_too_many_values_is_not_parsed(start: ServerFactory, connect: ClientFactory, text: str) -> None:
    client = connect(start(json_values=100))
    client.text(text)
    answer = client.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, -32700)
    assert "rpcwebsocketjsonvalues" in answer["error"]["message"]


def test_a_large_message_of_too_many_values_is_not_parsed(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(json_values=100, inline_message_size=200))
    client.text('{"method":"echo","params":[' + ",".join(["0"] * 200) + '],"id":1}')
    answer = client.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, -32700)
    client.request("echo", ["x" * 300], id=2)
    assert client.answer()["id"] == 2


def test_the_values_of_large_messages_are_charged(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(limit_loopback=True, inline_message_size=200, byte_burst=2000, byte_rate=1))
    client.request("echo", [[0] * 60, "x" * 100], id=1)  # 32 bytes for each value, more than what is allowed
    assert client.answer()["id"] == 1
    client.request("getblockcount", id=2)
    assert client.answer()["error"]["code"] == -32005


def test_large_messages_are_answered_in_order(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(inline_message_size=1000))
    for number in range(6):
        client.request("echo", ["x" * (2000 if number % 2 else 10)], id=number)
    assert [client.answer()["id"] for _ in range(6)] == list(range(6))
    client.text("{" + " " * 2000)
    assert client.answer()["error"]["code"] == -32700
