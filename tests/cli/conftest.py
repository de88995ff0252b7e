"""Commands that run in this process, against a server in it."""

from __future__ import annotations

import pytest

from dilithion_ws import WebSocketServer
from dilithion_ws.cli import main

from ..support.fixtures import Run, ServerFactory


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, and returns its exit status, its output and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    return start()


@pytest.fixture
def url(server: WebSocketServer) -> tuple[str, str]:
    return ("--url", server.url)
