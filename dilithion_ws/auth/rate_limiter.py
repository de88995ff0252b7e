"""How much one client may ask: token buckets, and lock-out after failed logins. Both keep a bounded number of clients.

A full table forgets whom it has not seen for longest. Whoever comes from more addresses than fit gains fresh buckets by
that, which is the price of bounded memory; locked addresses are the last to be forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from ..util.clock import Clock

__all__ = ["Lockout", "Rate", "RateLimiter"]


class Rate(NamedTuple):
    """A token bucket.

    Attributes:
        capacity: how much may come at once.
        refill: how much a second comes back.
    """

    capacity: float
    refill: float


class RateLimiter:
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
        with self._counting:
            bucket = self._filled(key, rate)
            wanted = min(cost, rate.capacity)
            if bucket[0] < wanted:
                return (wanted - bucket[0]) / rate.refill
            bucket[0] -= cost
            return 0.0

    def charge(self, key: Hashable, rate: Rate, cost: float) -> float:
        """Takes from a client's bucket what has come already, and so can't be refused.

        Returns:
            What is in the bucket now; negative for a debt, which is at most the capacity.
        """
        with self._counting:
            bucket = self._filled(key, rate)
            bucket[0] = max(-rate.capacity, bucket[0] - cost)
            return bucket[0]

    def _filled(self, key: Hashable, rate: Rate) -> list[float]:
        """The bucket as it is now; requires holding the lock."""
        assert self._counting.locked()
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = [rate.capacity, now]
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket[0] = min(rate.capacity, bucket[0] + (now - bucket[1]) * rate.refill)
            bucket[1] = now
        return bucket


class _Record:
    """What is known of one address.

    Attributes:
        failures: failed logins since the last lock-out, by a hash of the user name; fewer than a lock-out takes.
        locked_until: the end of the last lock-out, 0 where there was none.
        lockouts: how many there were.
        failed_at: when a login failed last.
    """

    __slots__ = ("failed_at", "failures", "locked_until", "lockouts")

    def __init__(self) -> None:
        self.failures: dict[int, int] = {}
        self.locked_until = 0.0
        self.lockouts = 0
        self.failed_at = 0.0


class Lockout:
    """Refuses an address after failed logins: for a while, then twice as long, up to a bound. Thread-safe.

    A good login forgives what failed under its own name only: else whoever has one password could guess another's, with
    a good login of his own between the guesses.

    Args:
        clock: seconds that never go backwards.
        failures: logins that may fail before the first lock-out.
        first, longest: seconds that it lasts, at first and at most.
        most: addresses kept, of failed logins and of good ones each.
    """

    def __init__(self, clock: Clock, failures: int, first: float, longest: float, most: int) -> None:
        self._clock = clock
        self._failures = failures
        self._first = first
        self._longest = longest
        self._most = most
        self._counting = threading.Lock()  # guards all below
        self._records: OrderedDict[str, _Record] = (
            OrderedDict()
        )  # those that are not locked, or were not when last seen
        self._locked: OrderedDict[str, _Record] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records) + len(self._locked)

    def locked_for(self, address: str) -> float:
        """Seconds for which an address is still locked out, 0 where it is not."""
        record = self._locked.get(address)
        return max(0.0, record.locked_until - self._clock()) if record is not None else 0.0

    def standing(self, address: str) -> int:
        """How an address has done so far: 2 for a good login, 0 for failed ones only, 1 where nothing is known."""
        if address in self._good:
            return 2
        record = self._locked.get(address) or self._records.get(address)
        return 1 if record is None or self._is_old(record, self._clock()) else 0

    def failed(self, address: str, name: str) -> float:
        """Notes a failed login; returns the seconds of the lock-out that it led to, 0 for none."""
        now = self._clock()
        with self._counting:
            record = self._locked.pop(address, None) or self._records.pop(address, None)
            if record is None or self._is_old(record, now):
                record = _Record()
            record.failed_at = now
            mark = hash(name)
            record.failures[mark] = record.failures.get(mark, 0) + 1
            seconds = 0.0
            if sum(record.failures.values()) >= self._failures:
                seconds = min(self._longest, self._first * 2 ** min(record.lockouts, 60))
                record.failures.clear()
                record.locked_until = now + seconds
                record.lockouts += 1
            (self._locked if record.locked_until > now else self._records)[address] = record
            if len(self) > self._most:
                self._forget_one(now)
            return seconds

    def succeeded(self, address: str, name: str) -> None:
        """Notes a good login: what failed under this name before it is forgotten."""
        with self._counting:
            self._good[address] = None
            self._good.move_to_end(address)
            if len(self._good) > self._most:
                self._good.popitem(last=False)
            record = self._records.get(address)
            if record is not None:
                record.failures.pop(hash(name), None)
                if not record.failures and not record.lockouts:
                    del self._records[address]

    def _is_old(self, record: _Record, now: float) -> bool:
        return now > max(record.failed_at, record.locked_until) + self._longest

    def _forget_one(self, now: float) -> None:
        """Forgets the record that was touched least lately; of a locked address only where there is no other."""
        oldest = next(iter(self._locked.values()), None)
        lock_is_over = oldest is not None and oldest.locked_until <= now
        (self._records if self._records and not lock_is_over else self._locked).popitem(last=False)
