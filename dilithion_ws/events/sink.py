"""What events know of a client: somebody who takes bytes, or not now, or no more."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

__all__ = ["Offer", "Sink", "Ticket"]


class Offer(Enum):
    """What became of bytes that were offered."""

    TAKEN = "taken"
    """Sent; the next may follow at once."""
    FULL = "full"
    """Taken, but the client does not keep up: `Hub.ready` will be called when it may be offered more."""
    BUSY = "busy"
    """Not taken, for the same reason."""
    GONE = "gone"
    """Not taken, and never will be."""


class Ticket(Protocol):
    """Under what bytes are offered.

    Attributes:
        ended: whether they are not wanted any more.
    """

    ended: bool


class Sink(Protocol):
    """One connected client.

    Attributes:
        id: its number.
        session: who it is.
        framing: how its frames are made; those of sinks with equal framings are the same.
        is_open: whether it is still connected.
    """

    @property
    def id(self) -> int: ...

    @property
    def session(self) -> Any: ...

    @property
    def framing(self) -> Any: ...

    @property
    def is_open(self) -> bool: ...

    def offer(self, data: bytes, ticket: Ticket) -> Offer:
        """Sends whole frames without waiting; GONE where the ticket has been cancelled."""

    def cancel(self, ticket: Ticket) -> None:
        """Sets `ended` of a ticket: nothing that is offered under it is sent after this."""
