"""What events require of a connected client: a non-blocking way to send bytes that reports what became of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from ..session import Session
from ..util.enums import OfferResult

__all__ = ["Encoder", "Recipient", "Subscriber", "Undelivered", "send_each"]

logger = logging.getLogger("dilithion_ws.events")

SENT, BUFFERED, REJECTED, CLOSED = OfferResult


class Encoder(Protocol):
    """Turns JSON into a frame. Clients with equal encoders get the same bytes, which are then encoded only once."""

    def encode(self, payload: bytes) -> bytes:
        """Return the frame of a JSON payload."""


class Recipient(Protocol):
    """One subscription of one client, as the transport sees it.

    Attributes:
        ended: whether nothing more may be sent for it.
    """

    ended: bool

    @property
    def subscriber(self) -> Any: ...


Undelivered = tuple[Any, OfferResult]
"""A recipient for which bytes were not simply sent, and what became of them."""


class Subscriber(Protocol):
    """One connected client.

    Attributes:
        id: the number of its connection.
        session: its session.
        encoder: how its frames are made.
        is_open: whether it is still connected.
    """

    @property
    def id(self) -> int: ...

    @property
    def session(self) -> Session: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def is_open(self) -> bool: ...

    def try_send(self, data: bytes, recipient: Recipient) -> OfferResult:
        """Send whole frames without blocking. CLOSED if the recipient has ended."""

    def send_many(self, data: bytes, recipients: Sequence[Recipient]) -> list[Undelivered]:
        """Send the same frames for many recipients, whose subscribers are of the same kind as this one.

        Returns:
            The recipients with another result than SENT.
        """

    def cancel(self, recipient: Recipient) -> None:
        """Set `ended` of a recipient. When this returns, nothing more is sent for it."""


def send_each(data: bytes, recipients: Sequence[Recipient]) -> list[Undelivered]:
    """Implement `Subscriber.send_many` by `try_send`."""
    undelivered: list[Undelivered] = []
    for recipient in recipients:
        try:
            result = recipient.subscriber.try_send(data, recipient)
        except Exception:
            logger.exception("delivering to %r failed", recipient)
            result = CLOSED
        if result is not SENT:
            undelivered.append((recipient, result))
    return undelivered
