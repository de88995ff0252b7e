"""The way of events to one connection: without waiting, and never into an outbox that has something already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import Clock
from .connection import ALL, OPEN, WAITING, Connection, Sent

__all__ = ["BUSY", "FULL", "GONE", "TAKEN", "Feed"]

TAKEN, FULL, BUSY, GONE = range(4)
"""What became of frames; the numbers are those of `events.sink`, which this floor does not know."""


class Feed:
    """Offers frames to one connection; a `Sink`, as events call it.

    Args:
        connection: the client.
        clock: seconds that never go backwards.
        after_send: told by post what a send leaves to be done.

    Attributes:
        framing: how the connection's messages leave.
    """

    __slots__ = ("_after_send", "_clock", "_connection", "framing")

    def __init__(self, connection: Connection, clock: Clock, after_send: Callable[[Connection, Sent], None]) -> None:
        self._connection = connection
        self._clock = clock
        self._after_send = after_send
        self.framing = connection.framing

    @property
    def id(self) -> int:
        """The connection's number."""
        return self._connection.id

    @property
    def session(self) -> Any:
        """The connection's session."""
        return self._connection.session

    @property
    def is_open(self) -> bool:
        """Whether the connection is there and takes messages."""
        return self._connection.state is OPEN

    def cancel(self, ticket: Any) -> None:
        """Sets `ended` of a ticket: nothing that is offered under it is sent after this."""
        with self._connection.lock:
            ticket.ended = True

    def offer(self, data: bytes, ticket: Any) -> int:
        """Sends whole frames under a ticket; returns TAKEN, FULL, BUSY or GONE.

        What the socket won't take at once waits, and until it is gone nothing more is taken. So a client that does not
        read costs one piece of a log, whatever is published meanwhile.
        """
        connection = self._connection
        with connection.lock:
            if ticket.ended or connection.state is not OPEN:
                return GONE
            if connection.outbox is not None:
                return BUSY
            sent = connection.write(data, self._clock)
        if sent is ALL:
            return TAKEN
        self._after_send(connection, sent)
        return FULL if sent is WAITING else GONE
