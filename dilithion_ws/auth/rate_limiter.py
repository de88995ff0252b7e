"""Token buckets by client, in bounded memory.

A full table forgets the bucket that was unused for longest. A client that comes from more addresses than the table holds
gets fresh buckets by that, which is the price of bounded memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from ..util.clock import Clock
from ..util.thread_contracts import any_thread

__all__ = ["Rate", "RateLimiter"]


class Rate(NamedTuple):
    """A token bucket.

    Attributes:
        capacity: tokens that it holds.
        tokens_per_second: tokens that are added per second.
    """

    capacity: float
    tokens_per_second: float


class _Bucket:
    __slots__ = ("level", "updated_at")

    def __init__(self, level: float, now: float) -> None:
        self.level = level
        self.updated_at = now


class RateLimiter:
    """Token buckets by key. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        max_buckets: buckets that are kept.
    """

    def __init__(self, clock: Clock, max_buckets: int) -> None:
        self._clock = clock
        self._max_buckets = max_buckets
        self._lock = threading.Lock()  # guards `_buckets`
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    @any_thread
    def take(self, key: Hashable, rate: Rate, cost: float = 1.0) -> float:
        """Take tokens from a bucket.

        Returns:
            0 if there were enough; otherwise nothing was taken, and the seconds until there will be enough. A cost beyond
            the capacity is granted if the bucket is full, and leaves a debt.
        """
        with self._lock:
            bucket = self._refill(key, rate)
            needed = min(cost, rate.capacity)
            if bucket.level < needed:
                return (needed - bucket.level) / rate.tokens_per_second
            bucket.level -= cost
            return 0.0

    @any_thread
    def charge(self, key: Hashable, rate: Rate, cost: float) -> float:
        """Take tokens for something that has already happened, and so cannot be refused.

        Returns:
            The tokens left; negative for a debt, which is at most the capacity.
        """
        with self._lock:
            bucket = self._refill(key, rate)
            bucket.level = max(-rate.capacity, bucket.level - cost)
            return bucket.level

    def _refill(self, key: Hashable, rate: Rate) -> _Bucket:
        """Return the bucket with the tokens that were added since the last time."""
        assert self._lock.locked()
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(rate.capacity, now)
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.level = min(rate.capacity, bucket.level + (now - bucket.updated_at) * rate.tokens_per_second)
            bucket.updated_at = now
        return bucket
