"""The signals that end a program, and the one that has it read its files again."""

from __future__ import annotations

import signal
from collections.abc import Callable

__all__ = ["handle_signals"]


def handle_signals(stop: Callable[[], object], reload: Callable[[], object]) -> None:
    """Call `stop` on SIGINT and SIGTERM, and `reload` on SIGHUP, which Windows lacks."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop())
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: reload())
