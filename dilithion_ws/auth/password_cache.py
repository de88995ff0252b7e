"""A cache of verified credentials, so that reconnects skip the slow hash.

It holds a keyed hash over name, password and stored digest, under a key that exists in this process only: a reader of the
memory would have to guess the password as for any hash. After a changed password or a removed user the entry no longer
matches, since the stored digest is part of the hash.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict

from ..util.clock import Clock
from ..util.thread_contracts import any_thread
from .credentials import Credentials
from .users import User, UserDirectory

__all__ = ["PasswordCache"]


class PasswordCache:
    """Verified credentials, for a time. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        seconds: how long an entry is valid.
        max_entries: entries that are kept.
    """

    def __init__(self, clock: Clock, seconds: float, max_entries: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._max_entries = max_entries
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()  # guards `_valid_until`
        self._valid_until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._valid_until)

    @any_thread
    def find(self, credentials: Credentials, directory: UserDirectory) -> User | None:
        """Return the user if exactly these credentials were verified recently, or None. Fast."""
        user = directory.get(credentials.name)
        # The fingerprint is computed for unknown names too, so that they take no less time.
        return user if self.has(self.fingerprint(credentials, user)) else None

    @any_thread
    def has(self, fingerprint: bytes) -> bool:
        """Return whether credentials with this fingerprint were verified recently."""
        valid_until = self._valid_until.get(fingerprint)
        return valid_until is not None and self._clock() < valid_until

    @any_thread
    def add(self, credentials: Credentials, user: User) -> None:
        """Add credentials that were verified."""
        fingerprint = self.fingerprint(credentials, user)
        with self._lock:
            self._valid_until[fingerprint] = self._clock() + self._seconds
            self._valid_until.move_to_end(fingerprint)
            if len(self._valid_until) > self._max_entries:
                self._valid_until.popitem(last=False)

    @any_thread
    def fingerprint(self, credentials: Credentials, user: User | None) -> bytes:
        """Return a keyed hash of credentials and of what is stored of the user. It changes with the user's password."""
        name = credentials.name.encode("utf-8", "surrogatepass")
        secret = credentials.password.encode("utf-8", "surrogatepass")
        stored = user.password.digest if user is not None else bytes(32)
        parts = len(name).to_bytes(4, "big") + name + stored + secret
        return hmac.digest(self._key, parts, "sha256")
