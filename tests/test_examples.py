"""The programs in examples/, each run as a reader would."""

from __future__ import annotations

import functools
import http.server
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dilithion_ws.client import Client
from dilithion_ws.devnode import DevNode

from .support import free_port, wait_for
from .support.browser import Browser
from .support.commands import ROOT
from .support.devnode import serve_devnode
from .support.programs import needs_chromium

EXAMPLES = ROOT / "examples"
MOST_LINES = 60


@contextmanager
def example(name: str, *arguments: str, cwd: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Run an example."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd, env=environment) as process:
        try:
            yield process
        finally:
            process.terminate()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that an example prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.fixture
def node() -> DevNode:
    return DevNode(seed=3, mining=False)


def pay(node: DevNode, address: str) -> str:
    tx, _ = node.others.build(address, 5_000_000)
    node.submit(tx)
    return tx.txid


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_an_embedding_node() -> None:
    port = str(free_port())
    with example("embedding_node.py", port) as process:
        assert line(process) == f"Listening on ws://127.0.0.1:{port}"
        with Client(f"ws://127.0.0.1:{port}") as client:
            event = client.follow_blocks(0).get(20)
            assert event.data["height"] == 0
            assert client.call("getblockhash", 0) == event.data["hash"]


def test_payments_across_a_restart(node: DevNode, tmp_path: Path) -> None:
    address, miner = node.wallet.new_address(), node.others.addresses[0]
    with serve_devnode(node) as server:
        with example("payment_watcher.py", server.url, "2", address, cwd=tmp_path) as process:
            wait_for(lambda: server.events.cursors.all(), 20, "the subscription")
            first = pay(node, address)
            node.generate(2, miner)
            assert line(process) == f"{first} to {address}: paid"
        wait_for(lambda: not server.events.cursors.all(), 20, "the end")
        second = pay(node, address)
        node.generate(2, miner)
        with example("payment_watcher.py", server.url, "2", address, cwd=tmp_path) as process:
            while line(process) != f"{second} to {address}: paid":
                pass  # the first one again, if the program ended before it had saved its place


def test_an_explorer_through_a_reorganisation(node: DevNode, tmp_path: Path) -> None:
    path = tmp_path / "explorer.db"

    def blocks() -> list[str]:
        with sqlite3.connect(path) as db:
            found = [hash for (hash,) in db.execute("SELECT hash FROM blocks ORDER BY height")]
        db.close()
        return found

    with serve_devnode(node) as server:
        for _ in range(2):
            with example("explorer_backfill.py", server.url, str(path), cwd=tmp_path):
                wait_for(lambda: path.exists() and path.stat().st_size and server.events.cursors.all(), 20)
                node.generate(1, node.others.addresses[0])
                wait_for(lambda: blocks() == [block.hash for block in node.chain.active], 20, "all blocks")
            wait_for(lambda: not server.events.cursors.all(), 20, "the end")
            with node.changed:
                node._reorganise()


def test_a_bot_in_a_chat(node: DevNode) -> None:
    with serve_devnode(node) as server, example("chat_bot.py", server.url) as process:
        wait_for(lambda: len(server.events.cursors.all()) == 3, 20, "the subscriptions")
        node.generate(1, node.others.addresses[0])
        assert line(process) == f"Block {node.chain.height} with 1 transactions"


@needs_chromium
def test_a_wallet(node: DevNode) -> None:
    page = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(EXAMPLES))
    port = free_port()
    origins = (f"http://localhost:{port}",)
    with (
        serve_devnode(node, user="alice", password="alicealice", allow_origins=origins) as server,
        http.server.ThreadingHTTPServer(("127.0.0.1", port), page) as web,
        Browser() as browser,
    ):
        threading.Thread(target=web.serve_forever, daemon=True).start()
        browser.open(f"http://localhost:{port}/wallet.html?server=localhost:{server.port}")
        ready = "document.getElementById('login')?.onsubmit != null"
        wait_for(lambda: browser.run(ready), 20, "the page")
        browser.run(
            "user.value = 'alice'; password.value = 'alicealice'; document.getElementById('login').requestSubmit()"
        )
        wait_for(lambda: browser.run("!pay.hidden"), 20, "the login")
        assert float(browser.run("balance.textContent")) > 0
        address = node.others.new_address()
        browser.run(f"to.value = '{address}'; amount.value = '0.10000000'; pay.requestSubmit()")
        wait_for(lambda: "seen" in browser.run("payments.textContent"), 20, "the payment")
        node.generate(1, node.others.addresses[0])
        wait_for(lambda: "confirmed 1" in browser.run("payments.textContent"), 20, "its first confirmation")
        web.shutdown()
