"""Time as the rest of the package sees it: a monotonic clock that tests can replace, and deadlines made from it.

No other module reads a clock by itself; each is given one, so that a test moves time instead of waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "Deadline", "monotonic"]

Clock = Callable[[], float]
"""Returns seconds that never go backwards; only differences mean anything."""

monotonic: Clock = time.monotonic


class Deadline:
    """A point in time that one operation of several steps must not pass.

    Args:
        clock: the clock that the deadline is measured by.
        seconds: how far away the deadline is; negative counts as now.
    """

    __slots__ = ("_clock", "at")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.at = clock() + max(0.0, seconds)

    @classmethod
    def until(cls, clock: Clock, at: float) -> Deadline:
        """The deadline at a moment that the clock has not reached yet, or has."""
        deadline = cls(clock, 0.0)
        deadline.at = at
        return deadline

    def remaining(self) -> float:
        """Seconds left, never negative: a negative timeout means "for ever" to some calls of the standard library."""
        return max(0.0, self.at - self._clock())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock() >= self.at

    def __repr__(self) -> str:
        return f"<Deadline in {self.remaining():.3f} s>"
