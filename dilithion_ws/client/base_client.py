"""What the clients with threads and with asyncio have in common: their options, and how they show results."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import msgspec

from ..util.position import Position
from .client_core import ClientCore, LinkState
from .connection_options import ConnectionOptions, check_url
from .open_calls import Answer
from .places import AfterBlock, Place, as_place
from .subscription_state import Event, QueueBounds, SubscriptionState

__all__ = ["BaseClient", "Since"]

Since = Place | tuple[str, int] | Mapping[str, Any] | None
"""Where to resume: a place, a pair of epoch and seq, what either is as JSON, or None for now."""


class BaseClient:
    """What `Client` and `AsyncClient` have in common. Calls methods and subscribes to events of one server.

    Args:
        url: `ws://host:port` or `wss://host:port`.
        user, password: credentials; both or neither.
        ssl_context: for wss: which authorities to trust, a certificate of one's own; default: the system's.
        timeout: seconds for a call, unless it says otherwise.
        connect_timeout: seconds for one attempt to connect.
        idle_timeout: seconds of silence after which the connection counts as lost; more than the server's ping interval.
        backoff: seconds between two attempts to connect: at first and at most. The pause doubles, and is then drawn from
            its second half, so that clients which lost a server together do not come back together.
        max_message_size: bytes of one message from the server.
        max_queued_events, max_queued_bytes: events of one subscription, and the bytes of their messages, that are kept
            for its reader. The server keeps the others.
        wait_for_server: whether to go on trying if the first attempt to connect fails.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        backoff: tuple[float, float] = (0.2, 30.0),
        max_message_size: int = 64 << 20,
        max_queued_events: int = 10_000,
        max_queued_bytes: int = 64 << 20,
        wait_for_server: bool = True,
    ) -> None:
        check_url(url)
        if (user is None) != (password is None):
            raise ValueError("user and password belong together")
        credentials = None if user is None or password is None else (user, password)
        self._options = ConnectionOptions(
            url, credentials, ssl_context, connect_timeout, idle_timeout, max_message_size
        )
        self._timeout = timeout
        self._bounds = QueueBounds(max_queued_events, max_queued_bytes)
        self._core = ClientCore(backoff, patient=wait_for_server)
        self._prepare()

    def _prepare(self) -> None:
        """Make what runs the core."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._options.url}, {'' if self.is_connected else 'not '}connected>"

    @property
    def is_connected(self) -> bool:
        """Whether the client is connected."""
        return self._core.state is LinkState.CONNECTED

    def _new_subscription(
        self, topic: str, filter: dict[str, Any] | None, mode: str | None, since: Since
    ) -> tuple[SubscriptionState, Place | None]:
        """Return a subscription and where it starts. Raise ValueError if that is not a place."""
        place = None if since is None else as_place(since)
        return SubscriptionState(topic, filter, mode, self._bounds), place


def result_of(answer: Answer, kind: Any) -> Any:
    """Return the result of a call, as a type unless that is None. Raise the error that is the answer."""
    if answer.error is not None:
        raise answer.error
    return answer.result if kind is None else msgspec.convert(answer.result, kind, strict=False)


def position_of(answer: Answer) -> Position | None:
    """Return the position that a result is the state of."""
    match answer.position:
        case {"epoch": str(epoch), "seq": int(seq)}:
            return Position(epoch, seq)
        case _:
            return None


def to_params(params: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return params as they are sent. Raise TypeError if some are given by position and some by name."""
    if params and named:
        raise TypeError("params are given by position or by name, not both")
    return named or list(params)


def is_final(event: Event, confirmations: int) -> bool:
    """Whether an event of a followed transaction is the last confirmation that was asked for."""
    return event.data["kind"] == "confirmed" and bool(event.data["confirmations"] >= confirmations)


def blocks_since(from_height: int | None, since: Place | None) -> Place | None:
    """Return where to start to follow blocks from a height on."""
    return since if from_height is None else AfterBlock(from_height - 1)
