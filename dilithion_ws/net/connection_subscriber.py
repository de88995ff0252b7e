"""The way of events to one connection: without waiting, and never into an outbox that has something already."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..util.clock import Clock
from .connection import ALL, OPEN, WAITING, Connection, SendResult

__all__ = ["BUSY", "FULL", "GONE", "TAKEN", "ConnectionSubscriber", "offer_all"]

logger = logging.getLogger("dilithion_ws.net")

TAKEN, FULL, BUSY, GONE = range(4)
"""What became of frames; the numbers are those of `events.sink`, which this floor does not know."""


class ConnectionSubscriber:
    """Offers frames to one connection; a `Subscriber`, as events call it.

    Args:
        connection: the client.
        clock: seconds that never go backwards.
        after_send: told by post what a send leaves to be done.

    Attributes:
        framing: how the connection's messages leave.
    """

    __slots__ = ("after_send", "clock", "connection", "framing")

    def __init__(
        self, connection: Connection, clock: Clock, after_send: Callable[[Connection, SendResult], None]
    ) -> None:
        self.connection = connection
        self.clock = clock
        self.after_send = after_send
        self.framing = connection.framing

    @property
    def id(self) -> int:
        """The connection's number."""
        return self.connection.id

    @property
    def session(self) -> Any:
        """The connection's session."""
        return self.connection.session

    @property
    def is_open(self) -> bool:
        """Whether the connection is there and takes messages."""
        return self.connection.state is OPEN

    def cancel(self, ticket: Any) -> None:
        """Sets `ended` of a ticket: nothing that is offered under it is sent after this."""
        with self.connection.lock:
            ticket.ended = True

    def offer(self, data: bytes, ticket: Any) -> int:
        """Sends whole frames under a ticket; returns TAKEN, FULL, BUSY or GONE.

        What the socket won't take at once waits, and until it is gone nothing more is taken. So a client that does not
        read costs one piece of a log, whatever is published meanwhile.
        """
        rest = offer_all(data, (ticket,))
        return rest[0][1] if rest else TAKEN


def offer_all(data: bytes, tickets: Sequence[Any]) -> list[tuple[Any, int]]:
    """Sends the same frames under many tickets, each to the feed `ticket.sink`; returns those that did not simply take
    them, and what became of them.

    This loop is what a subscriber costs: one lock, one system call, and as little as can be beside it.
    """
    rest: list[tuple[Any, int]] = []
    size = len(data)
    for ticket in tickets:
        feed = ticket.sink
        connection = feed.connection
        try:
            with connection.lock:
                if ticket.ended or connection.state is not OPEN:
                    rest.append((ticket, GONE))
                    continue
                if connection.outbox is not None:
                    rest.append((ticket, BUSY))
                    continue
                try:
                    sent = connection.sock.send(data)
                except OSError:
                    sent = 0  # what that means, `write` knows, who meets it again
                connection.sent += sent
                if sent == size:
                    continue
                outcome = connection.write(memoryview(data)[sent:], feed.clock)
            if outcome is not ALL:
                rest.append((ticket, FULL if outcome is WAITING else GONE))
                feed.after_send(connection, outcome)
        except Exception:
            logger.exception("delivering to %r failed", connection)
            rest.append((ticket, GONE))
    return rest
