"""Lock out addresses after failed logins, in bounded memory.

A full table forgets the address that was unused for longest; locked addresses are the last to be forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..config.limits import Limits
from ..util.clock import Clock
from ..util.thread_contracts import any_thread

__all__ = ["Lockout"]


class _Record:
    """What is known about one address.

    Attributes:
        guesses: by user name, the different guesses that failed since the last lock-out; fewer than a lock-out takes.
        locked_until: the end of the last lock-out, or 0.
        lockouts: how many lock-outs there were.
        failed_at: when a login failed last.
    """

    __slots__ = ("failed_at", "guesses", "locked_until", "lockouts")

    def __init__(self) -> None:
        self.guesses: dict[int, set[bytes]] = {}
        self.locked_until = 0.0
        self.lockouts = 0
        self.failed_at = 0.0


class Lockout:
    """Refuses an address after failed logins: for a time, then twice as long, up to a bound. Thread-safe.

    A successful login clears only the failures under its own name. Otherwise a client with one password could guess
    another user's, with a login of its own between the guesses.

    The same guess counts once: a program that repeats one wrong password, as pages with a built-in password do, does not
    guess, and would otherwise lock out everybody at its address.

    Args:
        clock: seconds that never go backwards.
        limits: how many failures lead to which lock-out, and how many addresses are remembered.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._max_failures = limits.logins.login_failures
        self._first = limits.logins.lockout
        self._longest = limits.logins.lockout_longest
        self._max_addresses = limits.rates.max_tracked_clients
        self._lock = threading.Lock()  # guards the three tables
        self._unlocked: OrderedDict[str, _Record] = OrderedDict()
        self._locked: OrderedDict[str, _Record] = OrderedDict()  # locked when they were last looked at
        self._trusted: OrderedDict[str, None] = OrderedDict()  # had a successful login

    def __len__(self) -> int:
        return len(self._unlocked) + len(self._locked)

    @any_thread
    def locked_for(self, address: str) -> float:
        """Return the seconds for which an address is still locked out, or 0."""
        record = self._locked.get(address)
        return max(0.0, record.locked_until - self._clock()) if record is not None else 0.0

    @any_thread
    def priority(self, address: str) -> int:
        """Return the priority of logins from an address: 2 after a successful one, 0 after failed ones only, else 1."""
        if address in self._trusted:
            return 2
        record = self._locked.get(address) or self._unlocked.get(address)
        return 1 if record is None or self._is_expired(record, self._clock()) else 0

    @any_thread
    def has_failed(self, address: str, name: str, guess: bytes) -> bool:
        """Return whether this guess has failed at an address since its last lock-out, so that it needs no second look."""
        with self._lock:
            record = self._locked.get(address) or self._unlocked.get(address)
            return record is not None and guess in record.guesses.get(hash(name), ())

    @any_thread
    def record_failure(self, address: str, name: str, guess: bytes) -> float:
        """Record a failed login.

        Args:
            address: where it came from.
            name: the user name, which need not exist.
            guess: a hash of the credentials (see `PasswordCache.fingerprint`).

        Returns:
            The seconds of the lock-out that it led to, or 0.
        """
        now = self._clock()
        with self._lock:
            record = self._locked.pop(address, None) or self._unlocked.pop(address, None)
            if record is None or self._is_expired(record, now):
                record = _Record()
            record.failed_at = now
            if record.locked_until > now:  # it was verified beside the one that led to the lock-out, or is exempt
                self._locked[address] = record
                return 0.0
            record.guesses.setdefault(hash(name), set()).add(guess)
            seconds = 0.0
            if sum(map(len, record.guesses.values())) >= self._max_failures:
                seconds = min(self._longest, self._first * 2 ** min(record.lockouts, 60))
                record.guesses.clear()
                record.locked_until = now + seconds
                record.lockouts += 1
            (self._locked if record.locked_until > now else self._unlocked)[address] = record
            if len(self) > self._max_addresses:
                self._forget_one(now)
            return seconds

    @any_thread
    def record_success(self, address: str, name: str) -> None:
        """Record a successful login: earlier failures under this name are forgotten."""
        with self._lock:
            self._trusted[address] = None
            self._trusted.move_to_end(address)
            if len(self._trusted) > self._max_addresses:
                self._trusted.popitem(last=False)
            record = self._unlocked.get(address)
            if record is not None:
                record.guesses.pop(hash(name), None)
                if not record.guesses and not record.lockouts:
                    del self._unlocked[address]

    def _is_expired(self, record: _Record, now: float) -> bool:
        return now > max(record.failed_at, record.locked_until) + self._longest

    def _forget_one(self, now: float) -> None:
        """Forget the least recently used record. A locked address goes only if there is no other."""
        assert self._lock.locked()
        oldest = next(iter(self._locked.values()), None)
        lock_is_over = oldest is not None and oldest.locked_until <= now
        (self._unlocked if self._unlocked and not lock_is_over else self._locked).popitem(last=False)
