"""Leader election: which of several servers with shared logs publishes to a topic."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Leadership", "SoleLeader"]


class Leadership(Protocol):
    """What `EventHub.lead` returns to a host. Thread-safe."""

    @property
    def term(self) -> int:
        """A number that is different each time this server becomes the leader; 0 while it is not."""


class SoleLeader:
    """The leadership of a server that shares its logs with no other."""

    term = 1
