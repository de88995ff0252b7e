"""The client for JavaScript in Node.js and in Chromium, through cuts, restarts, new epochs and reorganisations."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest

from ..support import wait_for
from ..support.browser import Browser
from ..support.commands import ROOT
from ..support.conformance import CUTS, ENDS, ChainServer, CuttingProxy, try_out
from ..support.programs import NODE_MODULES, needs_chromium, needs_node

pytestmark = pytest.mark.load

CLIENT = ROOT / "javascript" / "client.js"
PROGRAM = ROOT / "tests" / "javascript" / "follow_blocks.mjs"


@pytest.fixture(params=ENDS)
def server(request: pytest.FixtureRequest) -> Iterator[ChainServer]:
    found = ENDS[request.param]()
    found.start()
    yield found
    found.close()


@pytest.fixture
def proxy(server: ChainServer) -> Iterator[CuttingProxy]:
    found = CuttingProxy(server.port)
    yield found
    found.close()


class ProcessLines:
    """The lines of a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)

    def take(self) -> list[str]:
        count = len(self._lines)
        found, self._lines[:count] = self._lines[:count], []
        return found


class PageLines:
    """The lines of a page."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def take(self) -> list[str]:
        found: list[str] = self._browser.run("globalThis.lines.splice(0)")
        return found


@needs_node
def test_node(server: ChainServer, proxy: CuttingProxy) -> None:
    command = ["node", str(PROGRAM), str(CLIENT), f"ws://127.0.0.1:{proxy.port}"]
    environment = {"WS": str(NODE_MODULES / "ws" / "wrapper.mjs"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            view = try_out(server, proxy, ProcessLines(process), CUTS)
        finally:
            process.kill()
    assert view.events > 110
    assert proxy.connections > CUTS / 4


@needs_chromium
def test_chromium(server: ChainServer, proxy: CuttingProxy) -> None:
    program = PROGRAM.read_text().partition("\nif (")[0].replace("export ", "")
    with Browser() as browser:
        browser.open(f"http://localhost:{proxy.port}/")
        wait_for(lambda: browser.run("location.host && document.readyState === 'complete'"), 20, "the page")
        start = f"{program}; followBlocks(client, 'ws://' + location.host, line => lines.push(line)); return true"
        assert browser.run(f"globalThis.lines = []; import('./client.js').then(client => {{ {start} }})")
        view = try_out(server, proxy, PageLines(browser), CUTS)
    assert view.events > 110
    assert proxy.connections > CUTS / 4
