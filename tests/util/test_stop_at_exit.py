from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from dilithion_ws.util import stop_at_exit as module


class Server:
    def __init__(self) -> None:
        self.timeouts: list[float | None] = []

    def stop(self, timeout: float | None = None) -> bool:
        self.timeouts.append(timeout)
        return True


def test_running_servers_are_stopped_and_collected_ones_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Any] = []
    monkeypatch.setattr(module, "_is_registered", False)
    monkeypatch.setattr(threading, "_register_atexit", registered.append)
    monkeypatch.setattr(module, "_running", weakref.WeakSet())
    kept, dropped = Server(), Server()
    for server in (kept, dropped):
        module.stop_at_exit(server)
    assert len(registered) == 1
    timeouts = dropped.timeouts
    del dropped, server
    gc.collect()
    registered[0]()
    assert kept.timeouts == [1.0]
    assert timeouts == []
