"""A thing that happens once and can be waited for, safely even from a signal handler.

`threading.Event` is not: a handler that interrupts its thread inside `wait` or `set` of the same event can deadlock on
the event's own lock. A latch gives each waiter a lock of its own, and nobody takes a lock that another code path holds.
"""

from __future__ import annotations

import threading

from .clock import Deadline, monotonic

__all__ = ["WakeFlag", "Latch"]

_SIGNALS_SEEN = 0.5
"""Seconds after which a waiting thread looks up: a signal that comes just before a wait begins, or to another thread,
does not end the wait, and its handler can't run before the main thread does something."""


class Latch:
    """Closed until `open()` is called, then open for ever."""

    def __init__(self) -> None:
        self._open = False
        self._waiters: list[threading.Lock] = []

    @property
    def is_open(self) -> bool:
        """Whether it has happened."""
        return self._open

    def open(self) -> None:
        """Lets all waiters go, now and from now on."""
        self._open = True
        while self._waiters:
            try:
                _release(self._waiters.pop())
            except IndexError:
                break  # another thread opened it at the same time

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for it, at most `timeout` seconds; returns whether it has happened."""
        if self._open:
            return True
        mine = threading.Lock()
        mine.acquire()
        self._waiters.append(mine)
        deadline = None if timeout is None else Deadline(monotonic, timeout)
        while not self._open:  # `open` may have passed the list before this waiter was in it
            left = _SIGNALS_SEEN if deadline is None else min(_SIGNALS_SEEN, deadline.remaining())
            if mine.acquire(timeout=left) or (deadline is not None and deadline.expired):
                break
        try:
            self._waiters.remove(mine)
        except ValueError:
            pass  # taken by `open`
        return self._open


class WakeFlag:
    """Wakes one waiting thread; rings before the wait are remembered as one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wakes the waiter, or lets its next wait return at once."""
        _release(self._lock)

    def wait(self, timeout: float | None) -> None:
        """Waits for a ring, at most `timeout` seconds (None: no end)."""
        self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))


def _release(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # was free already
