"""How long something took, many times: counts by size, for a histogram."""

from __future__ import annotations

__all__ = ["BOUNDS", "DurationHistogram"]

BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Upper bounds of the counts, in seconds; the last count has none."""


class DurationHistogram:
    """Durations, which `Method.took` counts. Threads may race: a sample may be lost to that, which does no harm.

    Attributes:
        counts: how many there were up to each bound and above the one before.
        total: their sum, in seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """The counts up to each bound, as Prometheus wants them, and the sum."""
        found: list[tuple[str, float]] = []
        sum_so_far = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            sum_so_far += count
            found.append((bound, sum_so_far))
        return found, self.total
