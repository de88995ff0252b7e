"""The examples for JavaScript, as a reader would run them: a page, a bot in Node.js, and a page built with Vite."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws.devnode import DevNode

from ..support import free_port, wait_for
from ..support.browser import Browser
from ..support.commands import ROOT
from ..support.devnode import serve_devnode
from ..support.programs import NODE_MODULES, needs_chromium, needs_node

EXAMPLES = ROOT / "javascript" / "examples"


@pytest.fixture
def node() -> DevNode:
    return DevNode(seed=3, mining=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which the packages are installed."""
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for name in ("ws", "vite", "typescript", ".bin"):
        (modules / name).symlink_to(NODE_MODULES / name)
    (modules / "dilithion-ws").symlink_to(ROOT / "javascript")
    return tmp_path


@needs_node
def test_the_program_of_the_documentation(node: DevNode, project: Path) -> None:
    (program,) = re.findall(r"```js\n(.*?)```", (ROOT / "docs" / "events.md").read_text(), re.DOTALL)
    with serve_devnode(node) as server:
        program = program.replace("'http://localhost:8333/client.js'", "'dilithion-ws'").replace("840000", "0")
        program = "globalThis.WebSocket = (await import('ws')).WebSocket;\n" + program.replace("8333", str(server.port))
        (project / "program.mjs").write_text(program)
        with subprocess.Popen(["node", "program.mjs"], cwd=project, stdout=subprocess.PIPE, text=True) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline() == "connected 1 {\n"
            finally:
                running.kill()


@needs_node
def test_the_bot_goes_on_where_it_was(node: DevNode, project: Path) -> None:
    shutil.copy(EXAMPLES / "bot.mjs", project)
    address = node.wallet.new_address()
    with serve_devnode(node) as server:

        def run(meanwhile: Any, done: Any) -> str:
            """Run the bot until it has printed a line, and something is done."""
            command = ["node", "bot.mjs", server.url, address, "2"]
            with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as bot:
                try:
                    wait_for(lambda: server.events.cursors.all(), 20, "the subscription")
                    meanwhile()
                    assert bot.stdout is not None
                    line = bot.stdout.readline()
                    done()
                    return line
                finally:
                    bot.kill()

        def pay() -> str:
            tx, _ = node.others.build(address, 5_000_000)
            node.submit(tx)
            return tx.txid

        first = pay()
        state = project / f"{address}.json"

        def saved() -> None:
            wait_for(lambda: state.exists() and json.loads(state.read_text())["height"] == 112, 20, "the bot's state")

        line = run(lambda: node.generate(2, node.others.addresses[0]), saved)
        assert line == f"{first} has 2 confirmations, in block 111\n"
        wait_for(lambda: not server.events.cursors.all(), 20, "the end of the bot")
        second = pay()
        node.generate(2, node.others.addresses[0])
        assert run(lambda: None, lambda: None) == f"{second} has 2 confirmations, in block 113\n"


@needs_chromium
def test_the_page(node: DevNode) -> None:
    page = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(EXAMPLES))
    port = free_port()
    with (
        serve_devnode(node, allow_origins=(f"http://localhost:{port}",)) as server,
        http.server.ThreadingHTTPServer(("127.0.0.1", port), page) as web,
        Browser() as browser,
    ):
        threading.Thread(target=web.serve_forever, daemon=True).start()
        browser.open(f"http://localhost:{port}/page.html?server=localhost:{server.port}")
        wait_for(lambda: server.events.cursors.all(), 20, "the subscription")
        node.generate(2, node.others.addresses[0])
        shown = "document.getElementById('blocks')?.children.length"
        wait_for(lambda: browser.run(shown) == 2, 20, "the blocks")
        assert browser.run("document.getElementById('height').textContent") == str(node.chain.height)
        assert browser.run("document.getElementById('state').textContent") == "there"
        web.shutdown()


@needs_node
def test_the_page_built_with_vite(project: Path) -> None:
    for item in (EXAMPLES / "vite").iterdir():
        (shutil.copytree if item.is_dir() else shutil.copy)(item, project / item.name)  # type: ignore[operator]
    built = subprocess.run(
        ["npm", "run", "build"], cwd=project, capture_output=True, text=True, timeout=55, check=False, env=os.environ
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert list((project / "dist" / "assets").glob("*.js"))
