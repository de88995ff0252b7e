"""A monotonic clock that tests can replace, and deadlines measured by it.

No other module reads a clock; each is given one, so that a test can move time instead of waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "Deadline", "monotonic", "unix_time"]

Clock = Callable[[], float]
"""Returns seconds that never go backwards; only differences are meaningful."""

monotonic: Clock = time.monotonic
unix_time: Clock = time.time
"""Seconds of Unix time. It may go back and forth, so it is for dates only."""


class Deadline:
    """A point in time that an operation of several steps must not exceed.

    Args:
        clock: the clock that the deadline is measured by.
        seconds: seconds from now; negative values count as 0.
    """

    __slots__ = ("_clock", "at")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.at = clock() + max(0.0, seconds)

    @classmethod
    def until(cls, clock: Clock, at: float) -> Deadline:
        """Return the deadline at a reading of the clock."""
        deadline = cls(clock, 0.0)
        deadline.at = at
        return deadline

    def remaining(self) -> float:
        """Return the seconds left. Never negative, since some standard library calls take that for "forever"."""
        return max(0.0, self.at - self._clock())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self.at

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"
