"""Encodings and deflate over the network: calls, batches, errors and events, the same in each."""

from __future__ import annotations

import json
import zlib
from typing import Any

import msgspec
import pytest
import websockets.sync.client
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import Config, ConfigError, Limits, RpcTable, WebSocketServer
from dilithion_ws.rpc.msgpack import MessagePack

from ..support import REQUEST, RawClient, client_frame, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import block

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def upgrade(client: RawClient, protocol: str, extensions: str = "") -> str:
    """Asks for subprotocols and extensions; returns what the server says about both."""
    lines = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    lines += f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    head = client.upgrade(REQUEST[:-2] + lines.encode() + b"\r\n").decode().lower()
    found = [
        line.split(": ")[1] for line in head.split("\r\n") if line.startswith(("sec-websocket-p", "sec-websocket-e"))
    ]
    return " / ".join(found)


def packed_call(client: RawClient, message: Any) -> Any:
    client.send(client_frame(2, pack(message)))
    opcode, payload = client.frame()
    assert opcode == 2
    return unpack(payload)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("dilithion.v1", "dilithion.v1"),
        ("dilithion.v1, dilithion.v1+msgpack", "dilithion.v1+msgpack"),
        ("dilithion.v1, dilithion.v1+json", "dilithion.v1+json"),
        ("chat, dilithion.v1", "dilithion.v1"),
        ("chat", ""),
        ("", ""),
    ],
)
def test_the_server_prefers(start: ServerFactory, connect: ClientFactory, offered: str, chosen: str) -> None:
    assert upgrade(connect(start(), upgrade=False), offered) == chosen


def test_calls_in_messagepack(start: ServerFactory, connect: ClientFactory, rpc: RpcTable) -> None:
    rpc.register("large", lambda: 2**70)
    client = connect(start(), upgrade=False)
    upgrade(client, "dilithion.v1+msgpack")
    assert packed_call(client, {"method": "add", "params": [1, 2], "id": 7}) == {"jsonrpc": "2.0", "result": 3, "id": 7}
    assert packed_call(client, {"method": "add", "params": {"a": 1}, "id": "x"})["id"] == "x"
    assert packed_call(client, {"method": "nosuch", "id": 1})["error"]["code"] == -32601
    assert packed_call(client, {"method": "large", "id": 1})["result"] == str(2**70)
    batch = [{"method": "getblockcount", "id": 1}, {"method": "getblockcount"}, {"method": "x", "id": 2}]
    assert [answer["id"] for answer in packed_call(client, batch)] == [1, 2]
    client.send(client_frame(2, b"\xc1"))
    assert unpack(client.frame()[1])["error"]["code"] == -32700
    assert packed_call(client, msgspec.msgpack.Ext(5, b"x"))["error"]["code"] == -32700
    client.text('{"method":"getblockcount","id":3}')
    opcode, payload = client.frame()
    assert (opcode, unpack(payload)["result"]) == (2, 840000), "the answer is in the encoding of the connection"


@given(json_values)
def test_both_encodings_say_the_same(value: Any) -> None:
    codec = MessagePack()
    text = msgspec.json.encode(value)
    assert msgspec.json.decode(codec.decode(codec.encode(text))) == msgspec.json.decode(text)
    assert unpack(codec.encode(text)) == msgspec.json.decode(text)


def test_values_come_back_the_same_from_a_handler(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    packed, plain = connect(server, upgrade=False), connect(server)
    upgrade(packed, "dilithion.v1+msgpack")

    @given(json_values)
    def same(value: Any) -> None:
        message = {"method": "echo", "params": [value], "id": 1}
        assert packed_call(packed, message) == plain.call("echo", value)

    same()


def test_a_client_that_was_away_resumes_in_another_encoding(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(deflate=1, deflate_minimum=10)
    first = connect(server, upgrade=False)
    upgrade(first, "dilithion.v1+msgpack", "permessage-deflate")
    first.text('{"method":"subscribe","params":["blocks"],"id":1}')
    reply = message_of(first, "packed", "deflated")["result"]
    for height in (1, 2, 3):
        server.publish("blocks", block(height))
    seen = message_of(first, "packed", "deflated")["params"]
    first.close()
    for protocol, extensions in (("", ""), ("dilithion.v1+msgpack", "permessage-deflate")):
        client = connect(server, upgrade=False)
        upgrade(client, protocol, extensions)
        since = {"epoch": reply["epoch"], "seq": seen["seq"]}
        client.text(json.dumps({"method": "subscribe", "params": {"topic": "blocks", "since": since}, "id": 1}))
        assert message_of(client, protocol, extensions)["result"]["recovered"] is True
        missed = [message_of(client, protocol, extensions)["params"]["result"]["height"] for _ in range(2)]
        assert missed == [2, 3]


def test_events_in_each_encoding_deflated_and_not(start: ServerFactory, connect: ClientFactory) -> None:
    """All subscribers of one stream, each with the frames of its own framing."""
    server = start(deflate=1, deflate_minimum=10)
    offers = [
        ("", ""),
        ("dilithion.v1+msgpack", ""),
        ("", "permessage-deflate"),
        ("dilithion.v1+msgpack", "permessage-deflate"),
    ]
    clients = []
    for protocol, extensions in offers:
        client = connect(server, upgrade=False)
        upgrade(client, protocol, extensions)
        client.text('{"method":"subscribe","params":["blocks"],"id":1}')
        clients.append(client)
    found = []
    for client, (protocol, extensions) in zip(clients, offers, strict=True):
        assert message_of(client, protocol, extensions)["result"]["seq"] == 0
    for height in (1, 2):
        server.publish("blocks", block(height))
    for client, (protocol, extensions) in zip(clients, offers, strict=True):
        found.append([message_of(client, protocol, extensions) for _ in range(2)])
    assert all(one == found[0] for one in found)
    assert [one["params"]["result"] for one in found[0]] == [block(1), block(2)]


def message_of(client: RawClient, protocol: str, extensions: str) -> Any:
    first, second = client.take(2)
    assert bool(first & 0x40) <= bool(extensions)
    size = second if second < 126 else int.from_bytes(client.take(2), "big")
    payload = client.take(size)
    if first & 0x40:
        payload = zlib.decompress(payload + b"\x00\x00\xff\xff\x03\x00", -15)
    return unpack(payload) if protocol else json.loads(payload)


def test_deflate_is_off_unless_it_is_asked_for(start: ServerFactory, connect: ClientFactory) -> None:
    assert upgrade(connect(start(), upgrade=False), "", "permessage-deflate") == ""
    server = start(deflate=1, deflate_window=10)
    offer = "permessage-deflate; client_max_window_bits"
    answer = upgrade(connect(server, upgrade=False), "", offer)
    assert answer.endswith("client_max_window_bits=10")
    assert upgrade(connect(server, upgrade=False), "", "x-webkit-deflate-frame") == ""


def test_large_messages_deflated_both_ways(start: ServerFactory) -> None:
    server = start(deflate=1)
    text = "".join(f"line {number}\n" for number in range(80_000))
    with websockets.sync.client.connect(server.url, compression="deflate", max_size=None) as client:
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        client.send(json.dumps({"method": "echo", "params": [text], "id": 1}))
        assert json.loads(client.recv())["result"] == text


@pytest.mark.load
def test_bombs_on_fifty_connections_at_once(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(deflate=1)
    healthy = connect(server)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(b"\x00" * 200_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 200_000
    before = resident()
    clients = [connect(server, upgrade=False) for _ in range(50)]
    for at, client in enumerate(clients):
        upgrade(client, "", "permessage-deflate")
        if at % 2:
            client.send(client_frame(2, bomb, rsv=4))
        else:
            pieces = [bomb[begin : begin + 5000] for begin in range(0, len(bomb), 5000)]
            client.send(client_frame(2, pieces[0], fin=False, rsv=4))
            client.send(b"".join(client_frame(0, piece, fin=False) for piece in pieces[1:]))
        assert healthy.call("getblockcount")["result"] == 840000
    for client in clients:
        found, reason = client.close_frame()
        assert found == 1009
        assert "rpcwebsocketmessagesize" in reason
    assert resident() - before < 100 * 1024, "kibibytes: what was inflated is bounded by the limit of a message"
    wait_for(lambda: healthy.call("getblockcount")["result"] == 840000)


def resident() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


class Upside:
    """A codec of a host: JSON, backwards."""

    binary = False

    def encode(self, data: bytes) -> bytes:
        return data.decode()[::-1].encode()

    def decode(self, data: bytes) -> bytes:
        return self.encode(data)


def test_a_host_may_have_a_subprotocol_of_its_own(rpc: RpcTable, connect: ClientFactory) -> None:
    server = WebSocketServer(rpc, Config(limits=Limits()))
    server.subprotocol("upside.v1", Upside())
    for name in ("dilithion.v1", "upside.v1", "a b", "", "base64url.bearer.dilithion.x"):
        with pytest.raises(ConfigError, match="can't be a subprotocol"):
            server.subprotocol(name, Upside())
    with server:
        client = connect(server, upgrade=False)
        assert upgrade(client, "dilithion.v1, upside.v1") == "upside.v1"
        client.text('{"method":"getblockcount","id":1}'[::-1])
        assert json.loads(client.message()[::-1])["result"] == 840000
        client.close()
