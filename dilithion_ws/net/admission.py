"""How many connections there may be: in all, and from one address."""

from __future__ import annotations

import threading

from ..addresses import is_loopback, network_of
from ..config import Limits, limit_reached

__all__ = ["Admission"]


class Admission:
    """Counts connections from accept to close. Thread-safe: the acceptor admits, the leader releases.

    Args:
        limits: the two limits.
        files: connections that the process has descriptors for.
    """

    def __init__(self, limits: Limits, files: int) -> None:
        self._counting = threading.Lock()  # guards the two counts
        self._limits = limits
        self._files = files
        self._total = 0
        self.accepted = 0
        self._by_address: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Connections admitted and not released."""
        return self._total

    def admit(self, host: str) -> str | None:
        """Counts one more connection of this address; returns why it can't be, None where it is counted."""
        exempt = is_loopback(host)
        host = network_of(host)
        with self._counting:
            if self._total >= self._limits.connections:
                return limit_reached(self._limits, "connections")
            if self._total >= self._files:
                return f"limit of open files of the process ({self._files} connections)"
            mine = self._by_address.get(host, 0)
            if not exempt and mine >= self._limits.connections_per_address:
                return limit_reached(self._limits, "connections_per_address")
            self._total += 1
            self.accepted += 1
            self._by_address[host] = mine + 1
        return None

    def release(self, host: str) -> None:
        """Counts one connection of this address less."""
        host = network_of(host)
        with self._counting:
            self._total -= 1
            left = self._by_address[host] - 1
            if left:
                self._by_address[host] = left
            else:
                del self._by_address[host]
