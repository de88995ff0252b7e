"""Lock out clients that guess passwords, and no other ones, in bounded memory.

Failed logins are counted in three ways. Each count that reaches its limit locks out:

    counted by          after   what is locked out
    address and name    5       logins of that name from that address
    address             20      all logins from that address: it tries many names
    name                100     logins of that name from addresses that never had a successful one: many hosts try it

So a wrong password in a program on a machine locks out that name there, and neither the other users of the machine nor
the same user elsewhere. The same guess counts once: a program that repeats one wrong password does not guess.

A full table forgets the entry that was unused for longest; locked ones are the last to be forgotten.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from enum import Enum
from typing import NamedTuple, TypeVar

from ..config.limits import Limits, LoginLimits
from ..util.clock import Clock
from ..util.thread_contracts import any_thread

__all__ = ["LockScope", "Lockout", "NewLock"]


Key = TypeVar("Key", bound=Hashable)


class LockScope(Enum):
    """What is locked out."""

    PAIR = "name at address"
    ADDRESS = "address"
    NAME = "name"


class NewLock(NamedTuple):
    """A lock-out that a failure has led to.

    Attributes:
        scope: what is locked out.
        seconds: for how long.
    """

    scope: LockScope
    seconds: float


class _Entry:
    """What is known about one key of a table.

    Attributes:
        failures: different guesses that failed since the last lock-out.
        locked_until: the end of the last lock-out, or 0.
        lockouts: how many lock-outs there were.
        failed_at: when a login failed last.
        guesses: hashes of the guesses that failed since the last lock-out; of a pair only.
        compared: hashes of the guesses that were compared with remembered passwords during the last lock-out.
    """

    __slots__ = ("compared", "failed_at", "failures", "guesses", "locked_until", "lockouts")

    def __init__(self) -> None:
        self.failures = 0
        self.locked_until = 0.0
        self.lockouts = 0
        self.failed_at = 0.0
        self.guesses: set[int] = set()
        self.compared: set[int] = set()


class _Table:
    """Entries by key. The caller holds the lock.

    Args:
        max_failures: failures that lead to a lock-out.
        limits: how long one lasts.
        max_entries: entries that are kept.
    """

    def __init__(self, max_failures: int, limits: LoginLimits, max_entries: int) -> None:
        self._max_failures = max_failures
        self._first = limits.lockout
        self._longest = limits.lockout_longest
        self._max_entries = max_entries
        self._unlocked: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._locked: OrderedDict[Hashable, _Entry] = OrderedDict()  # locked when they were last looked at

    def __len__(self) -> int:
        return len(self._unlocked) + len(self._locked)

    def find(self, key: Hashable, now: float) -> _Entry | None:
        """Return the entry, unless it is too old to count."""
        entry = self._locked.get(key) or self._unlocked.get(key)
        return None if entry is None or self._is_expired(entry, now) else entry

    def locked_for(self, key: Hashable, now: float) -> float:
        """Return the seconds for which a key is still locked out, or 0."""
        entry = self._locked.get(key)
        return 0.0 if entry is None else max(0.0, entry.locked_until - now)

    def find_locked(self, key: Hashable, now: float) -> _Entry | None:
        """Return the entry of a key that is locked out."""
        entry = self._locked.get(key)
        return entry if entry is not None and entry.locked_until > now else None

    def touch(self, key: Hashable, now: float) -> _Entry:
        """Return the entry of a login that failed just now. It is made if there is none."""
        entry = self._locked.pop(key, None) or self._unlocked.pop(key, None)
        if entry is None or self._is_expired(entry, now):
            entry = _Entry()
        entry.failed_at = now
        (self._locked if entry.locked_until > now else self._unlocked)[key] = entry
        if len(self) > self._max_entries:
            self._forget_one(now)
        return entry

    def count(self, key: Hashable, now: float) -> float:
        """Count a failure. Return the seconds of the lock-out that it leads to, or 0."""
        entry = self.touch(key, now)
        if entry.locked_until > now:
            return 0.0
        entry.failures += 1
        if entry.failures < self._max_failures:
            return 0.0
        seconds: float = min(self._longest, self._first * 2 ** min(entry.lockouts, 60))
        entry.failures = 0
        entry.guesses.clear()
        entry.compared.clear()
        entry.locked_until = now + seconds
        entry.lockouts += 1
        self._unlocked.pop(key, None)
        self._locked[key] = entry
        return seconds

    def forgive(self, key: Hashable) -> None:
        """Forget the failures of a key that is not locked out. Earlier lock-outs still count."""
        entry = self._unlocked.get(key)
        if entry is not None:
            entry.failures = 0
            entry.guesses.clear()
            if not entry.lockouts:
                del self._unlocked[key]

    def _is_expired(self, entry: _Entry, now: float) -> bool:
        return now > max(entry.failed_at, entry.locked_until) + self._longest

    def _forget_one(self, now: float) -> None:
        """Forget the least recently used entry. A locked one goes only if there is no other."""
        while self._locked:
            key, entry = next(iter(self._locked.items()))
            if entry.locked_until > now:
                break
            del self._locked[key]  # its time is over: it is like any other
            self._unlocked[key] = entry
            self._unlocked.move_to_end(key, last=False)
        (self._unlocked or self._locked).popitem(last=False)


class Lockout:
    """Refuses logins after failed ones: for a time, then twice as long, up to a bound. Thread-safe.

    A successful login clears only the failures of its own name at its own address. Otherwise a client with one password
    could guess another user's, with a login of its own between the guesses.

    Args:
        clock: seconds that never go backwards.
        limits: how many failures lead to which lock-out, and how much is remembered.
    """

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        logins, entries = limits.logins, limits.rates.max_tracked_clients
        self._max_entries = entries
        self._max_remembered_guesses = logins.remembered_guesses
        self._lock = threading.Lock()  # guards all below
        self._pairs = _Table(logins.login_failures, logins, entries)
        self._addresses = _Table(logins.address_login_failures, logins, entries)
        self._names = _Table(logins.name_login_failures, logins, entries)
        self._has_locked = False  # whether there was any lock-out
        self._trusted_pairs: OrderedDict[tuple[str, int], None] = OrderedDict()  # had a successful login
        self._trusted_addresses: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._addresses)

    @any_thread
    def locked_for(self, address: str, name: str) -> float:
        """Return the seconds for which logins of a name from an address are still refused, or 0."""
        if not self._has_locked:
            return 0.0
        pair, now = (address, hash(name)), self._clock()
        with self._lock:
            seconds = max(self._pairs.locked_for(pair, now), self._addresses.locked_for(address, now))
            if pair in self._trusted_pairs:
                return seconds
            return max(seconds, self._names.locked_for(pair[1], now))

    @any_thread
    def priority(self, address: str) -> int:
        """Return the priority of logins from an address: 2 after a successful one, 0 after failed ones only, else 1."""
        with self._lock:
            if address in self._trusted_addresses:
                return 2
            return 1 if self._addresses.find(address, self._clock()) is None else 0

    @any_thread
    def has_failed(self, address: str, name: str, guess: bytes) -> bool:
        """Return whether this guess has failed since the last lock-out, so that it needs no second look."""
        with self._lock:
            entry = self._pairs.find((address, hash(name)), self._clock())
            return entry is not None and hash(guess) in entry.guesses

    @any_thread
    def may_be_remembered(self, address: str, name: str, guess: bytes) -> bool:
        """Return whether a guess during a lock-out may be compared with a password that was verified recently.

        A right one passes, so that a lock-out cannot be used against programs that are logged in. The number of different
        guesses is bounded, since a client that is locked out would otherwise find the password by these comparisons.
        """
        with self._lock:
            key, now = hash(name), self._clock()
            for entry in (
                self._pairs.find_locked((address, key), now),
                self._addresses.find_locked(address, now),
                self._names.find_locked(key, now),
            ):
                if entry is not None:  # counted where the lock-out is, since that is not forgotten before its end
                    if len(entry.compared) < self._max_remembered_guesses:
                        entry.compared.add(hash((key, guess)))
                    return hash((key, guess)) in entry.compared
            return True  # it has just ended

    @any_thread
    def record_failure(self, address: str, name: str, guess: bytes) -> NewLock | None:
        """Record a failed login.

        Args:
            address: where it came from.
            name: the user name, which need not exist.
            guess: a hash of the credentials (see `PasswordCache.fingerprint`).

        Returns:
            The widest lock-out that it has led to, or None.
        """
        pair, now = (address, hash(name)), self._clock()
        with self._lock:
            entry = self._pairs.touch(pair, now)
            # During a lock-out a failure was verified beside the one that led to it, or the name is exempt.
            if entry.locked_until > now or hash(guess) in entry.guesses:
                return None
            entry.guesses.add(hash(guess))
            found = None
            for scope, table, key in (
                (LockScope.PAIR, self._pairs, pair),
                (LockScope.ADDRESS, self._addresses, address),
                (LockScope.NAME, self._names, pair[1]),
            ):
                seconds = table.count(key, now)
                if seconds:
                    self._has_locked = True
                    found = NewLock(scope, seconds)
            return found

    @any_thread
    def record_success(self, address: str, name: str) -> None:
        """Record a login whose password was verified: earlier failures of this name at this address are forgotten."""
        pair = (address, hash(name))
        with self._lock:
            self._remember(self._trusted_pairs, pair)
            self._remember(self._trusted_addresses, address)
            self._pairs.forgive(pair)

    def _remember(self, trusted: OrderedDict[Key, None], key: Key) -> None:
        assert self._lock.locked()
        trusted[key] = None
        trusted.move_to_end(key)
        if len(trusted) > self._max_entries:
            trusted.popitem(last=False)
