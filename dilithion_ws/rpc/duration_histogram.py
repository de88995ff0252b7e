"""A histogram of durations."""

from __future__ import annotations

__all__ = ["BUCKET_BOUNDS", "DurationHistogram"]

BUCKET_BOUNDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
"""Upper bounds of the buckets in seconds; the last bucket has none."""


class DurationHistogram:
    """Durations by bucket. Threads may race: a sample may be lost, which is acceptable for statistics.

    Attributes:
        counts: durations in each bucket.
        total: the sum of all durations, in seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKET_BOUNDS) + 1)
        self.total = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Return the number of durations up to each bound, as Prometheus expects them."""
        buckets: list[tuple[str, float]] = []
        count = 0
        for bound, in_bucket in zip((*map(str, BUCKET_BOUNDS), "+Inf"), self.counts, strict=True):
            count += in_bucket
            buckets.append((bound, count))
        return buckets
