"""What events know of a client: somebody who takes bytes, or not now, or no more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

__all__ = ["BUSY", "FULL", "GONE", "TAKEN", "SendMany", "Subscriber", "Recipient", "offer_each"]


logger = logging.getLogger("dilithion_ws.events")

TAKEN, FULL, BUSY, GONE = range(4)
"""What became of bytes that were offered:

- TAKEN: sent; the next may follow at once.
- FULL: taken, but the client does not keep up: `Reactor.ready` will be called when it may be offered more.
- BUSY: not taken, for the same reason.
- GONE: not taken, and never will be.

Numbers, and no Enum, since each event is offered to each subscriber.
"""


class Recipient(Protocol):
    """Under what bytes are offered.

    Attributes:
        ended: whether they are not wanted any more.
    """

    ended: bool

    @property
    def sink(self) -> Any: ...


T = TypeVar("T", bound=Recipient)


class SendMany(Protocol):
    """Offers the same bytes to the sinks of many tickets; returns those that did not simply take them, and why."""

    def __call__(self, data: bytes, tickets: Sequence[T]) -> list[tuple[T, int]]: ...


class Subscriber(Protocol):
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

    def offer(self, data: bytes, ticket: Recipient) -> int:
        """Sends whole frames without waiting; TAKEN, FULL, BUSY or GONE, as where the ticket has been cancelled."""

    def cancel(self, ticket: Recipient) -> None:
        """Sets `ended` of a ticket: nothing that is offered under it is sent after this."""


def offer_each(data: bytes, tickets: Sequence[T]) -> list[tuple[T, int]]:
    """See `SendMany`: one after the other."""
    rest: list[tuple[T, int]] = []
    for ticket in tickets:
        try:
            offer = ticket.sink.offer(data, ticket)
        except Exception:
            logger.exception("delivering to %r failed", ticket)
            offer = GONE
        if offer != TAKEN:
            rest.append((ticket, offer))
    return rest
