"""The share of connections that are not admitted: those of clients that have yet to log in, or to complete a request."""

from __future__ import annotations

from collections import Counter

from ..util.ip import network_of
from .connection import Connection

__all__ = ["UnadmittedConnections"]


class UnadmittedConnections:
    """Chooses which connection gives way to a new one. For the leading thread.

    It is the oldest one of the network with the most of them. So a client that holds places without logging in loses them
    first, and a client that logs in without delay is admitted before its turn comes.

    Args:
        capacity: connections that may be unadmitted at the same time.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._networks: dict[Connection, str] = {}  # in the order of their arrival
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._networks)

    def add(self, connection: Connection) -> Connection | None:
        """Add a new connection. Return the one that gives way to it, or None."""
        network = network_of(connection.address[0])
        self._networks[connection] = network
        self._counts[network] += 1
        if len(self._networks) <= self._capacity:
            return None
        largest, _ = self._counts.most_common(1)[0]
        victim = next(one for one, owner in self._networks.items() if owner == largest)
        self.discard(victim)
        return victim

    def discard(self, connection: Connection) -> None:
        """Remove a connection, because it is admitted or closed."""
        network = self._networks.pop(connection, None)
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]
