"""Clients of other makes: the two examples of the specification, and what people use beside them."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.websocket
import websocket
import websockets.asyncio.client
import websockets.sync.client

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.devnode.methods import register_methods

from ..support import wait_for
from ..support.fixtures import ServerFactory
from ..support.programs import MEBIBYTE, NODE_MODULES, browse, needs_chromium, needs_node


@pytest.fixture
def node(start: ServerFactory) -> Iterator[WebSocketServer]:
    """A server with a development node, as scripts/run has it."""
    rpc, development = RpcTable(), DevNode(seed=1, mining=False)
    register_methods(rpc, development, lambda: None)
    rpc.register("echo", lambda value: value)
    server = start(rpc)
    yield server
    wait_for(lambda: server.connection_count == 0)


# Python


def test_the_python_example_of_the_specification(node: WebSocketServer) -> None:
    """As the specification prints it, but for the port, and that it ends."""
    received: list[Any] = []

    def on_message(ws: Any, message: str) -> None:
        received.append(json.loads(message))
        ws.close()

    def on_error(ws: Any, error: Exception) -> None:
        received.append(error)

    def on_close(ws: Any, code: int, reason: str) -> None:
        received.append((code, reason))

    def on_open(ws: Any) -> None:
        ws.send(json.dumps({"jsonrpc": "2.0", "method": "getbalance", "params": [], "id": 1}))

    ws = websocket.WebSocketApp(
        f"ws://localhost:{node.port}", on_message=on_message, on_error=on_error, on_close=on_close
    )
    ws.on_open = on_open
    ws.run_forever()
    answer, end = received
    assert answer["id"] == 1
    assert set(answer["result"]) == {"balance", "unconfirmed_balance", "immature_balance", "chain_health"}
    assert end == (1000, None)


def test_websocket_client(node: WebSocketServer) -> None:
    ws = websocket.create_connection(node.url, timeout=10)
    text = "ä" * (MEBIBYTE // 2)
    ws.send(json.dumps({"method": "echo", "params": [text], "id": 1}, ensure_ascii=False))
    assert json.loads(ws.recv())["result"] == text
    ws.ping("x")
    assert ws.recv_data(control_frame=True) == (10, b"x")
    ws.close()


def test_websockets_sync(node: WebSocketServer) -> None:
    with websockets.sync.client.connect(node.url, compression=None, max_size=None) as ws:
        ws.send(json.dumps({"method": "echo", "params": ["x" * MEBIBYTE], "id": 1}))
        assert len(json.loads(ws.recv())["result"]) == MEBIBYTE
        assert ws.ping().wait(10)
        ws.send(iter(['{"method":"getblock', 'count","id"', ":2}"]))
        assert json.loads(ws.recv())["id"] == 2
    assert ws.close_code == 1000


def test_websockets_asyncio(node: WebSocketServer) -> None:
    async def talk() -> None:
        async with websockets.asyncio.client.connect(node.url, max_size=None) as ws:
            for at in range(100):
                await ws.send(json.dumps({"method": "getblockcount", "id": at}))
            assert [json.loads(await ws.recv())["id"] for _ in range(100)] == list(range(100))
            await (await ws.ping())
        assert ws.close_code == 1000

    asyncio.run(talk())


def test_tornado_keeps_its_context_although_told_not_to(start: ServerFactory) -> None:
    server = start(deflate=True)

    async def talk() -> None:
        ws = await tornado.websocket.websocket_connect(server.url, compression_options={})
        for at in range(5):
            await ws.write_message(json.dumps({"method": "echo", "params": ["the same text " * 50], "id": at}))
            answer = await ws.read_message()
            assert answer is not None
            assert json.loads(answer)["id"] == at
        ws.close()

    asyncio.run(talk())


# JavaScript

NODE_SCRIPT = """
const WebSocket = require('ws');
const ws = new WebSocket(process.argv[2]);
const big = 'z'.repeat(1 << 20);
let pongs = 0;
ws.on('open', () => {
    ws.ping('hello');
    ws.send(JSON.stringify({jsonrpc: '2.0', method: 'getblockcount', params: [], id: 'a'}));
    ws.send(JSON.stringify({jsonrpc: '2.0', method: 'echo', params: [big], id: 'b'}));
});
ws.on('pong', data => { pongs += data.toString() === 'hello'; });
ws.on('message', data => {
    const answer = JSON.parse(data);
    if (answer.id === 'b') {
        console.log(JSON.stringify({echoed: answer.result === big, pongs}));
        ws.close(1000, 'done');
    }
});
ws.on('error', error => console.log('error', error.message));
ws.on('close', code => console.log(JSON.stringify({code})));
"""


@needs_node
def test_node_ws(node: WebSocketServer) -> None:
    result = subprocess.run(
        ["node", "-e", NODE_SCRIPT, "-", node.url],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines == [{"echoed": True, "pongs": 1}, {"code": 1000}], result.stderr


BROWSER_PAGE = """<!doctype html><meta charset=utf-8><script>
const lines = [];
const recorder = {
    log: (text, value) => lines.push(text + ' ' + (value ? JSON.stringify(value) : '')),
    error: text => lines.push(text)
};
(console => {
// Connect to WebSocket server
const ws = new WebSocket('ws://localhost:PORT');

ws.onopen = function() {
    console.log('WebSocket connected');

    // Send JSON-RPC request
    ws.send(JSON.stringify({
        jsonrpc: "2.0",
        method: "getbalance",
        params: [],
        id: 1
    }));
};

ws.onmessage = function(event) {
    const response = JSON.parse(event.data);
    console.log('Received:', response);
    if (response.id === 1) ws.send(JSON.stringify({method: 'echo', params: ['ü'.repeat(1 << 19)], id: 2}));
    if (response.id === 2) ws.close();
};

ws.onerror = function(error) {
    console.error('WebSocket error:', error);
};

ws.onclose = function(event) {
    console.log('WebSocket closed', {code: event.code, clean: event.wasClean});
    const reporter = new WebSocket('ws://localhost:PORT');
    reporter.onopen = () => reporter.send(JSON.stringify({method: 'report', params: [lines.join('\\n')], id: 1}));
};
})(recorder);
</script>"""


@needs_chromium
def test_the_javascript_example_of_the_specification_in_a_browser(node: WebSocketServer) -> None:
    """As the specification prints it, but for the port; it then echoes a mebibyte, closes, and reports what it saw."""
    reports: list[str] = []
    node.rpc.register("report", lambda text: reports.append(text))
    log = browse(BROWSER_PAGE.replace("PORT", str(node.port)), lambda: reports)[0].splitlines()
    assert log[0].startswith("WebSocket connected")
    assert '"immature_balance":' in log[1]
    assert log[2].startswith("Received:")
    assert log[2].count("ü") == MEBIBYTE // 2
    assert log[3:] == ['WebSocket closed {"code":1005,"clean":true}']


FOREIGN_PAGE = """<!doctype html><script>
const attempt = url => new Promise(resolve => {
    const ws = new WebSocket(url);
    ws.onopen = () => { ws.send('{"method":"stolen","id":1}'); resolve('open'); };
    ws.onerror = () => resolve('refused');
});
(async () => {
    const outcomes = [await attempt('ws://localhost:PORT'), await attempt('ws://evil.example:PORT')];
    fetch('http://localhost:ANSWER/' + outcomes.join('-'), {mode: 'no-cors'});
})();
</script>"""


@needs_chromium
def test_a_page_of_another_origin_in_a_browser_is_refused_by_either_name(node: WebSocketServer) -> None:
    """It can't open the socket by the server's name, nor by a name of its own that resolves to this machine."""
    outcomes: list[str] = []

    class Reports(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            outcomes.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reports) as reports:
        thread = threading.Thread(target=reports.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            page = FOREIGN_PAGE.replace("PORT", str(node.port), 2).replace("ANSWER", str(reports.server_port))
            seen = browse(page, lambda: outcomes, host="evil.example")
        finally:
            reports.shutdown()
            thread.join()
    assert seen[0] == "/refused-refused"


def test_many_clients_of_one_process_at_once(node: WebSocketServer) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with websockets.sync.client.connect(node.url) as ws:
                for at in range(20):
                    ws.send(json.dumps({"method": "getblockcount", "id": at}))
                    assert json.loads(ws.recv())["id"] == at
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
