"""Passwords that were found right a while ago, so that a reconnect need not pay for the slow function again.

What is kept is a keyed hash over name, password and stored digest, under a key that lives in this process only: it says
nothing about the password to a reader of the memory that a few guesses would not cost as much again. A changed password
or a removed user no longer matches, since the stored digest is part of it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict

from ..util.clock import Clock
from .credentials import Credentials
from .users import User, UserDirectory

__all__ = ["PasswordCache"]


class PasswordCache:
    """Right credentials, for a time. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        seconds: how long they are remembered.
        most: how many.
    """

    def __init__(self, clock: Clock, seconds: float, most: int) -> None:
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._key = secrets.token_bytes(32)
        self._keeping = threading.Lock()  # guards `_until`
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def find(self, credentials: Credentials, directory: UserDirectory) -> User | None:
        """The user, where just these credentials were found right lately; quick."""
        user = directory.get(credentials.name)
        # The mark is computed for unknown names too, so that these take no less time.
        until = self._until.get(self._mark(credentials, user))
        return user if until is not None and self._clock() < until else None

    def add(self, credentials: Credentials, user: User) -> None:
        """Notes credentials that were found right."""
        mark = self._mark(credentials, user)
        with self._keeping:
            self._until[mark] = self._clock() + self._seconds
            self._until.move_to_end(mark)
            if len(self._until) > self._most:
                self._until.popitem(last=False)

    def _mark(self, credentials: Credentials, user: User | None) -> bytes:
        name = credentials.name.encode("utf-8", "surrogatepass")
        secret = credentials.password.encode("utf-8", "surrogatepass")
        stored = user.password.digest if user is not None else bytes(32)
        parts = len(name).to_bytes(4, "big") + name + stored + secret
        return hmac.new(self._key, parts, hashlib.sha256).digest()
