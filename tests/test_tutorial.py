"""The tutorial, followed literally from an empty folder: its files, its commands, and its pages in a browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import free_port, wait_for
from .support.browser import Browser
from .support.litecoin import needs_litecoind
from .support.programs import needs_chromium

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
EMBED, BROWSER, GATEWAY = "Embed the server", "Show the events in a browser", "Put a gateway before a node"
PORTS = ("8333", "8000", "19443", "8335")


class Reader:
    """Follows the tutorial in a folder, with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in PORTS}
        self._running: list[subprocess.Popen[bytes]] = []
        programs = folder / "bin"
        programs.mkdir()
        for name, arguments in (("python", ""), ("dilithion-ws", "-m dilithion_ws")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (programs / name).chmod(0o700)
        self._environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        for name in [name for name in self._environment if name.startswith("DILITHION_")]:
            del self._environment[name]
        self._environment["DILITHION_RPCWEBSOCKETPORT"] = self.ports["8333"]  # in place of the default

    def placed(self, text: str) -> str:
        """Return a text with the ports of this reader."""
        for port, own in self.ports.items():
            text = re.sub(rf"\b{port}\b", own, text)
        return text

    def write_file(self, section: str, language: str) -> None:
        """Write the file of a section; its first line has the name."""
        ((name, text),) = re.findall(
            rf"```{language}\n(?:# |<!-- )([\w.]+)(?: -->)?\n(.*?)```", SECTIONS[section], re.DOTALL
        )
        (self.folder / name).write_text(self.placed(text))

    def commands(self, section: str) -> list[str]:
        """Return the blocks of commands of a section."""
        return [self.placed(text) for text in re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)]

    def start(self, text: str) -> None:
        """Run a block whose last command runs on."""
        head, _, last = text.strip().rpartition("\n")
        if head:
            self.run(head)
        self._running.append(
            subprocess.Popen(
                ["sh", "-c", f"exec {last}"], cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL
            )
        )

    def restart(self, number: int) -> None:
        """Stop a program that runs on, and start it again."""
        before = self._running[number]
        before.terminate()
        before.wait(30)
        self._running[number] = subprocess.Popen(before.args, cwd=self.folder, env=self._environment)

    def run(self, text: str) -> str:
        """Run a block of commands. Return what it prints."""
        done = subprocess.run(
            ["sh", "-ec", text],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, f"{text}: {done.stdout}{done.stderr}"
        return done.stdout

    def waits_for(self, port: str) -> None:
        """Wait until a server of the tutorial listens."""

        def listens() -> bool:
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", int(self.ports[port]))) == 0

        wait_for(listens, 40, f"a server on {port}")

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            process.wait(30)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.close()


def embed(reader: Reader) -> list[str]:
    """Follow the first step. Return the blocks of commands that come after the start."""
    reader.write_file(EMBED, "python")
    first, *others = reader.commands(EMBED)
    assert first == "python node.py\n"
    reader.start(first)
    reader.waits_for("8333")
    return others


@pytest.mark.load
def test_embed_the_server(reader: Reader) -> None:
    calls, status = embed(reader)
    height, *blocks = reader.run(calls).splitlines()
    assert int(height) >= 0
    assert len(blocks) == 2
    assert all("connected" in line for line in blocks)
    shown = reader.run(status)
    assert "ready" in shown
    assert "getblockcount" in shown
    with pytest.raises(AssertionError, match=r"Expected getblockcount\(\)"):
        reader.run("dilithion-ws call getblockcount 5")


@needs_chromium
@pytest.mark.load
def test_show_the_events_in_a_browser(reader: Reader) -> None:
    embed(reader)
    reader.write_file(BROWSER, "html")
    (serve,) = reader.commands(BROWSER)
    reader.start(serve)
    reader.waits_for("8000")
    with Browser() as browser:
        browser.open(f"http://localhost:{reader.ports['8000']}/")
        script = "Number(document.getElementById('height')?.textContent)"
        first = wait_for(lambda: browser.run(script), 20, "a height")
        wait_for(lambda: browser.run(script) > first + 1, 20, "the next ones")
        reader.restart(0)
        wait_for(lambda: browser.run(script) <= first, 20, "the height after a restart")
        wait_for(lambda: browser.run(script) > 1, 20, "the next one")
        browser.open(f"http://localhost:{reader.ports['8333']}/")
        wait_for(lambda: browser.run("document.querySelectorAll('#blocks button').length"), 20, "the page's blocks")


@needs_litecoind
@pytest.mark.skipif(shutil.which("litecoin-cli") is None, reason="needs litecoin-cli (apt-get install litecoind)")
@pytest.mark.load
def test_put_a_gateway_before_a_node(reader: Reader) -> None:
    node, gateway, read = reader.commands(GATEWAY)
    reader.start(node)
    reader.waits_for("19443")
    wait_for((reader.folder / "chain" / "regtest" / ".cookie").exists, 20, "the cookie")
    reader.start(gateway)
    reader.waits_for("8335")
    shown = reader.run(read)
    assert len(re.findall(r"blocks  connected +height=[123] ", shown)) == 3
    assert '"chain": "regtest"' in shown
