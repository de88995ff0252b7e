"""How much one client may ask: token buckets, and lock-out after failed logins. Both keep a bounded number of clients.

A full table forgets whom it has not seen for longest. Whoever comes from more addresses than fit gains fresh buckets by
that, which is the price of bounded memory; locked addresses are the last to be forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from ..clock import Clock

__all__ = ["Lockout", "Rate", "Throttle"]


class Rate(NamedTuple):
    """A token bucket.

    Attributes:
        capacity: how much may come at once.
        refill: how much a second comes back.
    """

    capacity: float
    refill: float


class Throttle:
    """Buckets by client and kind. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        most: buckets kept.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._counting = threading.Lock()  # guards `_buckets`
        self._buckets: OrderedDict[Hashable, list[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, rate: Rate, cost: float = 1.0) -> float:
        """Takes from a client's bucket.

        Returns:
            0 where there was enough, else the seconds until there will be; nothing was taken then. A cost beyond the
            whole capacity is let through when the bucket is full, and leaves a debt.
        """
        now = self._clock()
        with self._counting:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = [rate.capacity, now]
                if len(self._buckets) > self._most:
                    self._buckets.popitem(last=False)
            else:
                self._buckets.move_to_end(key)
            level = min(rate.capacity, bucket[0] + (now - bucket[1]) * rate.refill)
            wanted = min(cost, rate.capacity)
            if level >= wanted:
                bucket[:] = [level - cost, now]
                return 0.0
            bucket[:] = [level, now]
            return (wanted - level) / rate.refill


class Lockout:
    """Refuses an address after failed logins: for a while, then twice as long, up to a bound. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        failures: logins that may fail before the first lock-out.
        first, longest: seconds that it lasts, at first and at most.
        most: addresses kept.
    """

    def __init__(self, clock: Clock, failures: int, first: float, longest: float, most: int) -> None:
        self._clock = clock
        self._failures = failures
        self._first = first
        self._longest = longest
        self._most = most
        self._counting = threading.Lock()  # guards `_records`
        self._records: OrderedDict[str, list[float]] = OrderedDict()  # by address: failures, locked until, lock-outs

    def __len__(self) -> int:
        return len(self._records)

    def locked_for(self, address: str) -> float:
        """Seconds for which an address is still locked out, 0 where it is not."""
        record = self._records.get(address)
        return max(0.0, record[1] - self._clock()) if record is not None else 0.0

    def failed(self, address: str) -> float:
        """Notes a failed login; returns the seconds of the lock-out that it led to, 0 for none."""
        now = self._clock()
        with self._counting:
            record = self._records.setdefault(address, [0, 0.0, 0])
            self._records.move_to_end(address)
            if record[1] and now > record[1] + self._longest:
                record[:] = [0, 0.0, 0]  # long enough ago to be forgotten
            record[0] += 1
            seconds = 0.0
            if record[0] >= self._failures:
                seconds = min(self._longest, self._first * 2 ** min(record[2], 60))
                record[:] = [0, now + seconds, record[2] + 1]
            if len(self._records) > self._most:
                self._forget_one(now)
            return seconds

    def succeeded(self, address: str) -> None:
        """Notes a good login: what failed before it is forgotten."""
        with self._counting:
            self._records.pop(address, None)

    def _forget_one(self, now: float) -> None:
        """Forgets the oldest record that is not locked; of the first few, lest a full table make this slow."""
        for at, (address, record) in enumerate(self._records.items()):
            if record[1] <= now or at == 15:
                del self._records[address]
                return
