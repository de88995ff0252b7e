"""Deflate and both encodings with clients of other makes: 1 MiB there and back, on a server that has deflate on."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import urllib.request
from typing import Any

import msgspec
import pytest
import websocket
import websockets.asyncio.client
import websockets.sync.client
from websockets.typing import Subprotocol

from dilithion_ws import WebSocketServer

from ..support import wait_for
from ..support.browser import Browser
from ..support.fixtures import ServerFactory
from ..support.programs import MEBIBYTE, NODE_MODULES, needs_chromium, needs_node

BIG = "".join(f"{number:07}\n" for number in range(MEBIBYTE // 8))
"""One mebibyte, of which deflate makes about a fifth."""

PACKED, PLAIN = "dilithion.v1+msgpack", "dilithion.v1+json"
encodings = pytest.mark.parametrize("protocol", [PLAIN, PACKED])
pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    server: WebSocketServer = start(deflate=1)
    return server


def traffic(server: WebSocketServer) -> dict[str, int]:
    """Bytes that the server counted, in and out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {name: int(float(value)) for name, value in re.findall(r'_bytes_total{direction="(in|out)"} (\S+)', text)}


def request(protocol: str) -> str | bytes:
    message = {"jsonrpc": "2.0", "method": "echo", "params": [BIG], "id": 1}
    return pack(message) if protocol == PACKED else json.dumps(message)


def answer(message: str | bytes) -> Any:
    return json.loads(message) if isinstance(message, str) else unpack(message)


@encodings
def test_websockets_sync(server: WebSocketServer, protocol: str) -> None:
    with websockets.sync.client.connect(server.url, subprotocols=[Subprotocol(protocol)], max_size=None) as client:
        assert client.subprotocol == protocol
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        for _ in range(3):
            client.send(request(protocol))
            assert answer(client.recv())["result"] == BIG
    assert_deflated(server, messages=3)


@encodings
def test_websockets_asyncio(server: WebSocketServer, protocol: str) -> None:
    async def talk() -> None:
        async with websockets.asyncio.client.connect(
            server.url, subprotocols=[Subprotocol(protocol)], max_size=None
        ) as client:
            assert client.subprotocol == protocol
            for _ in range(3):
                await client.send(request(protocol))
                assert answer(await client.recv())["result"] == BIG

    asyncio.run(talk())
    assert_deflated(server, messages=3)


@encodings
def test_websocket_client_which_has_no_deflate(server: WebSocketServer, protocol: str) -> None:
    """It offers none, so that the server must not use it."""
    client = websocket.create_connection(server.url, subprotocols=[Subprotocol(protocol)], timeout=20)
    try:
        assert client.subprotocol == protocol
        assert "sec-websocket-extensions" not in client.headers
        opcode = websocket.ABNF.OPCODE_BINARY if protocol == PACKED else websocket.ABNF.OPCODE_TEXT
        for _ in range(3):
            client.send(request(protocol), opcode)
            assert answer(client.recv())["result"] == BIG
    finally:
        client.close()
    counted = traffic(server)
    assert min(counted["in"], counted["out"]) > 3 * MEBIBYTE


def assert_deflated(server: WebSocketServer, messages: int) -> None:
    counted = traffic(server)
    assert 10_000 < counted["in"] < messages * MEBIBYTE // 2
    assert 10_000 < counted["out"] < messages * MEBIBYTE // 2


# JavaScript: the encoding by hand, no more of it than a call needs

TALK = """
const pack = value => {
    if (typeof value === 'number') return [value];
    if (Array.isArray(value)) return [0x90 | value.length, ...value.flatMap(pack)];
    if (typeof value === 'string') {
        const bytes = new TextEncoder().encode(value), size = bytes.length;
        return [0xdb, size >> 24, (size >> 16) & 255, (size >> 8) & 255, size & 255].concat(Array.from(bytes));
    }
    const items = Object.entries(value);
    return [0x80 | items.length].concat(...items.map(([name, inner]) => pack(name).concat(pack(inner))));
};
const unpack = buffer => {
    const view = new DataView(buffer);
    let at = 0;
    const text = size => new TextDecoder().decode(new Uint8Array(buffer, (at += size) - size, size));
    const read = () => {
        const kind = view.getUint8(at++);
        if (kind < 0x80) return kind;
        if (kind < 0x90) {
            const found = {};
            for (let left = kind & 15; left; left--) { const name = read(); found[name] = read(); }
            return found;
        }
        if (kind >= 0xa0 && kind < 0xc0) return text(kind & 31);
        if (kind === 0xdb) { at += 4; return text(view.getUint32(at - 4)); }
        throw new Error('kind ' + kind);
    };
    return read();
};
const talk = (url, protocol, times) => new Promise((resolve, reject) => {
    const ws = new WebSocket(url, protocol);
    const big = Array.from({length: 131072}, (_, at) => String(at).padStart(7, '0') + '\\n').join('');
    const call = {jsonrpc: '2.0', method: 'echo', params: [big], id: 1};
    const packed = protocol.endsWith('msgpack');
    let right = 0;
    const send = () => ws.send(packed ? new Uint8Array(pack(call)) : JSON.stringify(call));
    ws.binaryType = 'arraybuffer';
    ws.onopen = send;
    ws.onmessage = event => {
        const answer = typeof event.data === 'string' ? JSON.parse(event.data) : unpack(event.data);
        right += answer.result === big && (typeof event.data !== 'string') === packed;
        if (--times) send();
        else ws.close(1000);
    };
    ws.onclose = event => resolve(
        {right, code: event.code, protocol: ws.protocol, deflate: String(ws.extensions).split(';')[0]});
    ws.onerror = event => reject(new Error(event.message || 'failed'));
});
"""


def expected(protocol: str) -> dict[str, Any]:
    return {"right": 3, "code": 1000, "protocol": protocol, "deflate": "permessage-deflate"}


@needs_node
@encodings
def test_node_ws(server: WebSocketServer, protocol: str) -> None:
    script = f"const WebSocket = require('ws');{TALK}talk(...{json.dumps([server.url, protocol, 3])})"
    script += ".then(found => console.log(JSON.stringify(found)), error => console.log(error.message))"
    result = subprocess.run(
        ["node", "-e", script],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.startswith("{"), result.stdout + result.stderr
    assert json.loads(result.stdout) == expected(protocol)
    assert_deflated(server, messages=3)


@needs_chromium
def test_chromium(server: WebSocketServer) -> None:
    with Browser() as browser:
        browser.open(f"http://localhost:{server.port}/")
        wait_for(lambda: browser.run("document.readyState + location.port") == f"complete{server.port}", 20)
        for protocol in (PLAIN, PACKED):
            url = f"ws://localhost:{server.port}/"
            assert browser.run(f"(() => {{{TALK}return talk(...{json.dumps([url, protocol, 3])})}})()") == expected(
                protocol
            )
    assert_deflated(server, messages=6)
