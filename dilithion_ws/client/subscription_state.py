"""A subscription as a state machine: where it stands, and the events that wait for its reader. No locks, no waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import JsonRpcCode
from ..util.position import Position
from .exceptions import EventsLostError
from .open_calls import to_rpc_error
from .places import AfterBlock, Place, as_place, block_after, place_as_json

__all__ = ["RETRYABLE", "Event", "QueueBounds", "SubscriptionState"]

RETRYABLE = (
    JsonRpcCode.EVENTS_LOST,
    JsonRpcCode.SERVER_BUSY,
    JsonRpcCode.RATE_LIMITED,
    JsonRpcCode.CALL_TIMED_OUT,
)
"""Errors after which a subscription is worth another try."""


class Event(NamedTuple):
    """One event.

    Attributes:
        topic: what was subscribed to.
        seq: its number in its topic; None if it is not from the log, but was read from the chain.
        epoch: of which numbering, likewise.
        data: what was published. Decimal numbers are `Decimal`.
        since: where a later subscription continues after it.
    """

    topic: str
    seq: int | None
    epoch: str | None
    data: Any
    since: Place

    @property
    def position(self) -> Position | None:
        """The position in the log after this event, or None if it is not from the log. `since` is always there."""
        return None if self.seq is None or self.epoch is None else Position(self.epoch, self.seq)


class QueueBounds(NamedTuple):
    """What is kept of a subscription for its reader: a number of events, and the bytes of their messages."""

    events: int
    size: int


class SubscriptionState:
    """What a client knows of one subscription. Not thread-safe.

    Events that were not read yet are kept up to a bound. Past that the subscription is paused: the server is asked for
    no more, and when the rest has been read it continues after that, out of the server's log.

    Args:
        topic, filter, mode: as they are sent.
        bounds: what is kept for the reader.
        wake: called when there may be something to read.

    Attributes:
        id: what the server calls it; None before the first reply.
        last_received: the place after the last event that came in.
        last_block: likewise, for a topic of blocks.
        position: where to resume after the last event that was read, or where the subscription began.
        is_closed: whether nothing more will come in.
        is_paused: whether it accepts no events until its reader has read the queue.
        size: bytes of what waits for the reader.
    """

    def __init__(
        self,
        topic: str,
        filter: dict[str, Any] | None,
        mode: str | None,
        bounds: QueueBounds,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic = topic
        self.filter = filter
        self.mode = mode
        self.wake = wake
        self._bounds = bounds
        self._queue: deque[tuple[Event | EventsLostError, int]] = deque()
        self._failure: BaseException | None = None
        self._skips = False
        self._in_log: Position | None = None  # the last position in the log; None while the chain is replayed
        self.id: str | None = None
        self.last_received: Place | None = None
        self.last_block: AfterBlock | None = None
        self.position: Place | None = None
        self.is_closed = False
        self.is_paused = False
        self.size = 0

    @property
    def params(self) -> dict[str, Any]:
        """The params of `subscribe`, for a subscription that starts now."""
        found = {"topic": self.topic, "filter": self.filter, "mode": self.mode}
        return {name: value for name, value in found.items() if value is not None}

    def params_since(self, since: Place | None) -> dict[str, Any]:
        """Return the params of `subscribe` to continue at a place."""
        return self.params if since is None else {**self.params, "since": place_as_json(since)}

    # The reader's side

    @property
    def waiting(self) -> int:
        """The number of events, and errors, that wait for the reader."""
        return len(self._queue)

    @property
    def has_something(self) -> bool:
        """Whether a reader need not wait: for an event, an error, the end, or because it has to end a pause."""
        return bool(self._queue or self.is_closed or self.is_paused)

    def take(self) -> Event | None:
        """Return the next event, or None if there is none now.

        Raises:
            EventsLostError: events are missing here; the next call continues after them.
            RpcError, ClientError: what ended the subscription, if that was not its own client.
        """
        if self._queue:
            found, size = self._queue.popleft()
            self.size -= size
            self.position = found.now if isinstance(found, EventsLostError) else found.since
            if isinstance(found, EventsLostError):
                raise found
            return found
        if self._failure is not None:
            raise self._failure
        return None

    # The connection's side

    def begin(self, reply: dict[str, Any], since: Place | None, refused: dict[str, Any] | None = None) -> None:
        """Record the reply to `subscribe`: the subscription continues at the place `since`, or events are lost.

        Args:
            reply: the reply.
            since: where it was asked to continue.
            refused: the reply that it could not continue in the log, if it was asked to continue in the chain for that.
        """
        in_log = Position(reply["epoch"], reply["seq"]) if "epoch" in reply else None
        now = as_place(reply["since"]) if "since" in reply else in_log
        if now is None:
            raise ValueError("the reply names no place in the topic")
        self.id = reply["subscription"]
        self._skips = reply.get("mode") == "latest"
        before, self._in_log = self._in_log or since, in_log
        if since is None:
            self.last_received = now
        elif reply.get("recovered"):
            self.last_received = since
            self._in_log = since if isinstance(since, Position) else None
        else:
            assert before is not None
            first = reply if refused is None else refused
            self.last_received = now
            self._put(EventsLostError(self.topic, first.get("detail") or first.get("reason", "gap"), before, now), 0)
        if self.position is None:
            self.position = self.last_received
        self.wake()

    def notify(self, params: dict[str, Any], size: int = 0) -> bool:
        """Add an event, whose message has `size` bytes. Return whether there is room for another."""
        if self.is_paused or self.is_closed or self.last_received is None:
            return True
        data, place = params["result"], self._place_after(params)
        if place is None:
            return True
        self._put(Event(self.topic, params.get("seq"), params.get("epoch"), data, place), size)
        self.last_received = place
        if self.topic == "blocks" and not self._skips:
            self.last_block = block_after(data)
        self.wake()
        return len(self._queue) < self._bounds.events and self.size < self._bounds.size

    def _place_after(self, params: dict[str, Any]) -> Place | None:
        """Return the place after an event, or None if the event is of no use. Queue an error if one before it is lost."""
        if "since" in params or self.topic == "transactions":
            return as_place(params["since"]) if "since" in params else self.last_received
        if "seq" not in params:
            return block_after(params["result"])
        before, place = self._in_log, Position(params["epoch"], params["seq"])
        if before is not None:
            if place.epoch != before.epoch or place.seq <= before.seq:
                return None
            if params["prev"] > before.seq and not self._skips:
                self._put(EventsLostError(self.topic, "gap", before, Position(place.epoch, params["prev"])), 0)
        self._in_log = place
        return place

    def _put(self, found: Event | EventsLostError, size: int) -> None:
        before = self._queue[-1][0] if self._queue else None
        if isinstance(found, EventsLostError) and isinstance(before, EventsLostError):
            # One loss after the other, without an event between them, is one: the queue stays bounded.
            self._queue.pop()
            found = EventsLostError(self.topic, found.reason, before.last, found.now)
        self._queue.append((found, size))
        self.size += size

    def pause(self) -> None:
        """Record that the server sends no more events. The reader subscribes again after the last event in the queue."""
        self.is_paused = True
        self.wake()

    def go_on_at(self, position: Position) -> None:
        """Record that the log goes on without a loss, under another epoch."""
        self._in_log = position
        if isinstance(self.last_received, Position):
            self.last_received = position

    def ended(self, error: dict[str, Any]) -> bool:
        """Record that the server has ended the subscription. Return whether to subscribe again."""
        if error.get("code") in RETRYABLE:
            return True
        self.finish(to_rpc_error(error))
        return False

    def finish(self, failure: BaseException | None) -> None:
        """End the subscription: what waits can still be read, and then there is this failure, or the end."""
        self.is_closed = True
        if self._failure is None:
            self._failure = failure
        self.wake()
