"""What events know of a client: somebody who takes bytes, or not now, or no more."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["BUSY", "FULL", "GONE", "TAKEN", "Sink", "Ticket"]


TAKEN, FULL, BUSY, GONE = range(4)
"""What became of bytes that were offered:

- TAKEN: sent; the next may follow at once.
- FULL: taken, but the client does not keep up: `Hub.ready` will be called when it may be offered more.
- BUSY: not taken, for the same reason.
- GONE: not taken, and never will be.

Numbers, and no Enum, since each event is offered to each subscriber.
"""


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

    def offer(self, data: bytes, ticket: Ticket) -> int:
        """Sends whole frames without waiting; TAKEN, FULL, BUSY or GONE, as where the ticket has been cancelled."""

    def cancel(self, ticket: Ticket) -> None:
        """Sets `ended` of a ticket: nothing that is offered under it is sent after this."""
