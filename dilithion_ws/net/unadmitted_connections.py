"""The share of connections that are not admitted: those of clients that have yet to log in, or to complete a request."""

from __future__ import annotations

from collections.abc import Container

from ..util.ip import network_of
from .connection import Connection

__all__ = ["UnadmittedConnections"]


class UnadmittedConnections:
    """Chooses which connection gives way to a new one. For the leading thread.

    It is the oldest one of the network with the most of them. So a client that holds places without logging in loses them
    first, and a client that logs in without delay is admitted before its turn comes. After a restart thousands of clients
    may come back at once. The server is what these wait for, so none gives way that has sent what was not looked at yet,
    or that has just connected.

    Args:
        capacity: connections that may be unadmitted at the same time.
        patience: seconds from its connection for which a client does not give way.
        waiting: connections that have sent something that was not looked at yet.
    """

    def __init__(self, capacity: int, patience: float, waiting: Container[Connection]) -> None:
        self._capacity = capacity
        self._patience = patience
        self._waiting = waiting
        self._networks: dict[Connection, str] = {}  # in the order of their arrival
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def add(self, connection: Connection, now: float) -> Connection | None:
        """Add a new connection. Return the one that gives way to it, or None.

        Args:
            connection: the new one.
            now: when the present turn of the loop began; what was accepted since then was not polled yet.
        """
        network = network_of(connection.address[0])
        self._networks[connection] = network
        self._counts[network] = self._counts.get(network, 0) + 1
        if len(self._networks) <= self._capacity:
            return None
        largest = max(self._counts, key=self._counts.__getitem__)
        latest = now - self._patience
        for victim, owner in self._networks.items():
            if victim.opened_at > latest:
                return None
            if owner == largest and victim not in self._waiting:
                self.discard(victim)
                return victim
        return None

    def discard(self, connection: Connection) -> None:
        """Remove a connection, because it is admitted or closed."""
        network = self._networks.pop(connection, None)
        if network is not None:
            left = self._counts[network] - 1
            if left:
                self._counts[network] = left
            else:
                del self._counts[network]
