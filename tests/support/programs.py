from __future__ import annotations

import http.server
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import wait_for

MEBIBYTE = 1 << 20


NODE_MODULES = Path(__file__).parent.parent.parent / ".cache" / "node_modules"


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


_NEEDED = ("ws", "@open-rpc/generator", "@types/lodash", "typescript", "vite", "esbuild")
needs_node = pytest.mark.skipif(
    not shutil.which("node") or not all((NODE_MODULES / name).exists() for name in _NEEDED),
    reason="needs Node.js with ws, TypeScript, Vite and others (apt-get install npm, then scripts/prepare)",
)


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")


needs_axe = pytest.mark.skipif(
    not (NODE_MODULES / "axe-core").exists(), reason="needs axe-core (apt-get install npm, then scripts/prepare)"
)


@contextmanager
def published(page: str) -> Iterator[int]:
    """Serves a page over HTTP, as a developer would; the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def browse(page: str, done: Callable[[], Any], host: str = "localhost", options: Iterable[str] = ()) -> Any:
    """Opens a page, at this host name, in a browser until `done` returns something true, and returns that."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, published(page) as port:
        browser = subprocess.Popen(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--user-data-dir={folder}/profile",
                "--remote-debugging-port=0",  # without it, a headless browser exits once the page has loaded
                "--host-resolver-rules=MAP *.example 127.0.0.1",
                *options,
                f"http://{host}:{port}/",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return wait_for(done, 40, "what the page should do")
        finally:
            browser.kill()
            browser.wait()
