"""The client for JavaScript: its tests in Node.js, its types, its size, and its examples."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

import dilithion_ws
from dilithion_ws import CallContext, Config, RpcError, RpcTable, WebSocketServer
from dilithion_ws.auth.api_tokens import hash_token

from ..support.commands import ROOT, serving
from ..support.programs import NODE_MODULES, needs_node

pytestmark = needs_node

PACKAGE = ROOT / "javascript"
PROGRAMS = ROOT / "tests" / "javascript"
TOKEN = "dilithion_" + "t" * 40
MOST_BYTES = 6 * 1024


def node(
    *command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program of Node.js."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=55,
        cwd=cwd,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def serve(**options: Any) -> WebSocketServer:
    """Start a server with the methods that the tests of the client call."""
    rpc = RpcTable()
    server = WebSocketServer(rpc, Config(**options))

    @rpc.method(permission="READ_BLOCKCHAIN")
    def add(a: int, b: int) -> int:
        return a + b

    @rpc.method(permission="READ_BLOCKCHAIN")
    def fail() -> None:
        raise RpcError(-7, "broken", {"why": "test"})

    @rpc.method(permission="READ_BLOCKCHAIN", position_of="mempool")
    def state() -> str:
        return "state"

    @rpc.method(permission="READ_BLOCKCHAIN", blocking=True)
    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return "slow"

    @rpc.method(permission="READ_BLOCKCHAIN")
    def echo(value: msgspec.Raw) -> msgspec.Raw:
        return value

    @rpc.method(permission="READ_BLOCKCHAIN")
    def publish_soon(topic: str, count: int) -> None:
        for id in range(1, count + 1):
            server.publish(topic, {"kind": "connected", "id": id, "addr": "a", "inbound": True, "peers": id})

    @rpc.method(permission="READ_BLOCKCHAIN")
    def remove_soon(txid: str) -> None:
        server.publish("mempool", {"kind": "removed", "txid": txid, "reason": "expired", "size": 1, "sequence": 1})

    @rpc.method(permission="READ_BLOCKCHAIN")
    def new_epoch(topic: str) -> None:
        server.events.start_new_epoch(topic)

    @rpc.method(permission="READ_BLOCKCHAIN", blocking=True)
    def lose_me(context: CallContext) -> None:
        threading.Timer(0.05, server.close_connection, (context.connection_id, 1011)).start()
        time.sleep(0.2)

    def read(height: int, count: int) -> list[dict[str, Any]]:
        heights = range(height, min(height + count, 9))
        return [
            {"height": n, "hash": f"{n:02x}", "previousblockhash": f"{n - 1:02x}", "time": 1, "tx_count": 1}
            for n in heights
        ]

    server.history("blocks", read)
    return server.start()


def test_the_client_s_own_tests(tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(
        json.dumps(
            {"version": 1, "users": {}, "tokens": {"bot": {"token_hash": hash_token(TOKEN).hex(), "role": "admin"}}}
        )
    )
    users.chmod(0o600)
    with serve() as free, serve(user="alice", password="alicealice", users_file=str(users)) as closed:
        environment = {"CLIENT": str(PACKAGE / "client.js"), "WS": str(NODE_MODULES / "ws" / "wrapper.mjs")}
        environment |= {"URL_OPEN": free.url, "URL_USERS": closed.url, "TOKEN": TOKEN}
        result = node("node", "--test", PROGRAMS / "client.test.mjs", environment=environment)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_types_hold_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "dilithion-ws").symlink_to(PACKAGE)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAMS / "types.ts", tmp_path)
    options = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false")
    result = node(NODE_MODULES / ".bin" / "tsc", *options, "types.ts", cwd=tmp_path)
    assert result.returncode == 0, result.stdout


def test_types_of_a_server_compile(tmp_path: Path) -> None:
    with serving("--dev") as (_, port):
        command = [sys.executable, "-m", "dilithion_ws", "types", "--url", f"ws://127.0.0.1:{port}"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "dilithion-ws").symlink_to(PACKAGE)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node.ts").write_text(result.stdout)
    (tmp_path / "use.ts").write_text(
        """
import { Client } from 'dilithion-ws';
import type { Methods, Topics } from './node.js';

export async function check(): Promise<void> {
  const client = new Client<Methods, Topics>('ws://localhost:8333');
  const count: number = await client.call('getblockcount');
  await client.call('getblock', { hash: '00', verbosity: 2 });
  await client.call('getblockhash', [count]);
  // @ts-expect-error: heights are numbers
  await client.call('getblockhash', ['1']);
  // @ts-expect-error: the method needs a param
  await client.call('getblockhash', []);
  for await (const { data } of client.subscribe('transactions', { filter: { txid: '00' } })) {
    if (data.kind === 'confirmed') console.log(data.confirmations.toFixed());
  }
}
"""
    )
    options = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false")
    compiled = node(NODE_MODULES / ".bin" / "tsc", *options, "use.ts", cwd=tmp_path)
    assert compiled.returncode == 0, compiled.stdout


def test_the_bundle_is_small(tmp_path: Path) -> None:
    result = node(NODE_MODULES / ".bin" / "esbuild", PACKAGE / "client.js", "--minify", "--format=esm")
    assert result.returncode == 0, result.stderr
    assert len(gzip.compress(result.stdout.encode(), 9)) < MOST_BYTES


def test_the_package_has_what_it_needs_and_no_more(tmp_path: Path) -> None:
    result = node("npm", "pack", "--json", "--pack-destination", tmp_path, cwd=PACKAGE)
    assert result.returncode == 0, result.stderr
    (packed,) = json.loads(result.stdout)
    assert {one["path"] for one in packed["files"]} == {"README.md", "client.d.ts", "client.js", "package.json"}
    facts = json.loads((PACKAGE / "package.json").read_text())
    assert "dependencies" not in facts
    assert facts["version"] == dilithion_ws.__version__


def test_the_server_serves_the_client() -> None:
    with serve() as server, urllib.request.urlopen(f"http://127.0.0.1:{server.port}/client.js") as answer:
        assert answer.read() == (PACKAGE / "client.js").read_bytes()
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
