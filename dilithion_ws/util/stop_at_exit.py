"""Servers that nobody stops: they are stopped when the interpreter exits."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

__all__ = ["stop_at_exit"]

_AT_EXIT = 1.0
"""Seconds that a forgotten server gets to stop in."""


class Stoppable(Protocol):
    """A server."""

    def stop(self, timeout: float | None = None) -> bool: ...


_running: weakref.WeakSet[Stoppable] = weakref.WeakSet()
_hooked = False


def stop_at_exit(server: Stoppable) -> None:
    """Has a server, which runs already, stopped when the interpreter exits, if it is still there and still runs."""
    global _hooked
    if not _hooked:
        _hooked = True
        # `atexit` is too late: before it, the interpreter joins the executor's threads, and would wait for ever. The hook
        # that `concurrent.futures` itself uses runs before that, and of two hooks the later one goes first, so that ours
        # must come when the executor's is there. It is private; where a Python has it no more, a host must call stop().
        getattr(threading, "_register_atexit", lambda function: None)(_stop_all)
    _running.add(server)


def _stop_all() -> None:
    for server in list(_running):
        server.stop(_AT_EXIT)
