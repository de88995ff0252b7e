"""Which of several servers publishes, where they share their logs."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SoleLeader", "Leadership"]


class Leadership(Protocol):
    """What `EventHub.lead` gives a host. Thread-safe."""

    @property
    def term(self) -> int:
        """0 while this server does not lead; else a number that is another each time it has come to lead."""


class SoleLeader:
    """Of a server that shares its logs with nobody."""

    term = 1
