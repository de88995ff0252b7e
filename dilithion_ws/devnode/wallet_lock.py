"""The passphrase of the development node's wallet."""

from __future__ import annotations

import math
from collections.abc import Callable

from .primitives import digest

__all__ = ["WalletLock"]


class WalletLock:
    """Whether the wallet is encrypted, and locked now.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._hash = b""
        self._until = 0.0

    @property
    def is_encrypted(self) -> bool:
        """Whether it has a passphrase."""
        return bool(self._hash)

    @property
    def is_locked(self) -> bool:
        """Whether its keys cannot be used now."""
        return self.is_encrypted and self._clock() >= self._until

    def encrypt(self, passphrase: str) -> None:
        """Give it a passphrase, and lock it."""
        self._hash, self._until = digest(passphrase.encode()), 0.0

    def decrypt(self) -> None:
        """Take the passphrase away, for another wallet."""
        self._hash = b""

    def unlock(self, passphrase: str, seconds: float) -> bool:
        """Unlock it for some seconds, for ever if that is 0. Return whether the passphrase is right."""
        if digest(passphrase.encode()) != self._hash:
            return False
        self._until = self._clock() + seconds if seconds else math.inf
        return True

    def lock(self) -> None:
        """Lock it."""
        self._until = 0.0

    def change(self, previous: str, passphrase: str) -> bool:
        """Change the passphrase. Return whether the previous one is right."""
        if digest(previous.encode()) != self._hash:
            return False
        self._hash = digest(passphrase.encode())
        return True
