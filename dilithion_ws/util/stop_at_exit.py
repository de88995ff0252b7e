"""Stop servers that are still running when the interpreter exits."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

__all__ = ["stop_at_exit"]

_EXIT_SECONDS = 1.0
"""How long such a server gets to stop."""


class Stoppable(Protocol):
    """A server."""

    def stop(self, timeout: float | None = None) -> bool: ...


_running: weakref.WeakSet[Stoppable] = weakref.WeakSet()
_is_registered = False


def stop_at_exit(server: Stoppable) -> None:
    """Stop a running server when the interpreter exits, if it was not stopped or collected before.

    `atexit` would be too late: before it runs, the interpreter joins the threads of all executors, and would wait forever
    for this server's. The hook that `concurrent.futures` itself uses runs earlier, and of two such hooks the later one
    runs first, so ours must be registered after the executor's. It is private: on a Python without it, the host must
    call `stop`.
    """
    global _is_registered
    if not _is_registered:
        _is_registered = True
        getattr(threading, "_register_atexit", lambda function: None)(_stop_all)
    _running.add(server)


def _stop_all() -> None:
    for server in list(_running):
        server.stop(_EXIT_SECONDS)
