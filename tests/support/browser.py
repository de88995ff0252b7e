"""Chromium, driven over its own debugging protocol: open a page, run script in it, look at it."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import websocket

from . import wait_for
from .programs import CHROMIUM

if TYPE_CHECKING:
    from typing_extensions import Self


class Browser:
    """One window."""

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        assert CHROMIUM is not None
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = Path(self.folder.name) / "profile"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"]
        options += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
        options += [f"--window-size={width},{height}", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        options += ["--remote-allow-origins=*", "about:blank"]
        self.process = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port_file = profile / "DevToolsActivePort"
            wait_for(lambda: port_file.exists() and port_file.read_text().count("\n"), 40, "the browser's start")
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as response:
                (target,) = [one for one in json.load(response) if one["type"] == "page"]
            self.socket = websocket.create_connection(target["webSocketDebuggerUrl"], timeout=20)
        except BaseException:
            self.close_process()
            raise
        self.ids = itertools.count(1)
        self.problems: list[str] = []
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **params: Any) -> Any:
        id = next(self.ids)
        self.socket.send(json.dumps({"id": id, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(message["params"]))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
                self.problems.append(message["params"]["entry"]["text"])
            if message.get("id") == id:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str) -> None:
        self.command("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        result = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def insert(self, text: str) -> None:
        self.command("Input.insertText", text=text)

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text
            )

    def point_at(self, element: str, x: float) -> None:
        """Move the pointer to a place in an element, `x` of its width from the left."""
        box = self.run(f"(({element}).scrollIntoView(), ({element}).getBoundingClientRect().toJSON())")
        place = {"x": box["x"] + x * box["width"], "y": box["y"] + box["height"] / 2}
        self.command("Input.dispatchMouseEvent", type="mouseMoved", **place)

    def screenshot(self, path: Path, *, width: int, height: int, dark: bool) -> None:
        self.resize(width, height, dark=dark)
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))

    def used_memory(self) -> int:
        """Return the bytes of JavaScript that are in use after a collection."""
        self.command("HeapProfiler.collectGarbage")
        used: int = self.command("Runtime.getHeapUsage")["usedSize"]
        return used

    def resize(self, width: int, height: int, *, dark: bool) -> None:
        """Show pages in a window of this size."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def close_process(self) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()
        self.close_process()
