"""Two synchronisation primitives that are safe in a signal handler.

`threading.Event` is not: a handler that interrupts its thread inside `wait` or `set` of the same event deadlocks on the
event's own lock. Here, each waiter has a lock of its own, and no code path takes a lock that another one holds.
"""

from __future__ import annotations

import threading

from .clock import Deadline, monotonic
from .thread_contracts import any_thread

__all__ = ["Latch", "WakeFlag"]

_SIGNAL_CHECK_SECONDS = 0.5
"""How often a waiting thread returns to the interpreter. A signal that arrives just before the wait, or at another
thread, does not end the wait, and its handler runs only when the main thread executes bytecode again."""


class Latch:
    """Closed until `open` is called, then open forever."""

    def __init__(self) -> None:
        self._open = False
        self._waiters: list[threading.Lock] = []

    @property
    def is_open(self) -> bool:
        """Whether `open` was called."""
        return self._open

    @any_thread
    def open(self) -> None:
        """Release all waiting threads, and let later waits return at once."""
        self._open = True
        while self._waiters:
            try:
                _release(self._waiters.pop())
            except IndexError:
                break  # another thread opened it at the same time

    @any_thread
    def wait(self, timeout: float | None = None) -> bool:
        """Block until the latch is open, at most `timeout` seconds. Return whether it is."""
        if self._open:
            return True
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        deadline = None if timeout is None else Deadline(monotonic, timeout)
        while not self._open:  # `open` may have emptied the list before this waiter was in it
            seconds = _SIGNAL_CHECK_SECONDS if deadline is None else min(_SIGNAL_CHECK_SECONDS, deadline.remaining())
            if waiter.acquire(timeout=seconds) or (deadline is not None and deadline.expired):
                break
        try:
            self._waiters.remove(waiter)
        except ValueError:
            pass  # `open` has removed it
        return self._open


class WakeFlag:
    """Wakes one waiting thread. The flag is cleared by the wait that sees it (an auto-reset event)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    @any_thread
    def set(self) -> None:
        """Wake the waiting thread, or let its next wait return at once. Several calls count as one."""
        _release(self._lock)

    @any_thread
    def wait(self, timeout: float | None) -> None:
        """Block until the flag is set, at most `timeout` seconds (None: forever), and clear it."""
        self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))


def _release(lock: threading.Lock) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was not held
