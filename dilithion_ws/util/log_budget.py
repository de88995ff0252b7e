"""Bound the lines of a log that clients can cause."""

from __future__ import annotations

import threading

from .clock import Clock
from .thread_contracts import any_thread

__all__ = ["LogBudget"]


class LogBudget:
    """Decides which of many lines about the same cause are written, and counts the others.

    Args:
        clock: seconds that never go backwards.
        burst: lines at once.
        per_second: lines per second after that.
    """

    def __init__(self, clock: Clock, burst: int, per_second: float) -> None:
        self._clock = clock
        self._burst = burst
        self._per_second = per_second
        self._lock = threading.Lock()  # guards the three below
        self._lines = float(burst)
        self._updated_at = clock()
        self._suppressed = 0

    @any_thread
    def take(self) -> int | None:
        """Return how many lines were suppressed before this one, or None if this one has to be suppressed, too."""
        with self._lock:
            now = self._clock()
            self._lines = min(self._burst, self._lines + (now - self._updated_at) * self._per_second)
            self._updated_at = now
            if self._lines < 1:
                self._suppressed += 1
                return None
            self._lines -= 1
            suppressed, self._suppressed = self._suppressed, 0
            return suppressed
