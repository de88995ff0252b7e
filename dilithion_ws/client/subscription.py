"""A subscription: an iterator over events, which raises an error if events are missing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import JsonRpcCode, RpcError
from ..events.log import Position
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread
from .exceptions import CallTimeoutError, EventsLostError
from .places import AfterBlock, Place, as_place, block_after, place_as_json

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RETRYABLE", "Event", "QueueBounds", "Subscription"]

RETRYABLE = (JsonRpcCode.EVENTS_LOST, JsonRpcCode.SERVER_BUSY, JsonRpcCode.RATE_LIMITED)
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


class Subscription:
    """Iterates over the events of a topic. `close()` or a `with` block ends it. Leaving the loop does not.

    What it has not been read of yet is kept here, up to a bound. Past that the server is asked for no more; when the rest
    has been read it goes on from there, out of the server's log.

    Attributes:
        topic: what was subscribed to.
        filter, mode: as they were given.
    """

    def __init__(
        self,
        topic: str,
        filter: dict[str, Any] | None,
        mode: str | None,
        bounds: QueueBounds,
        request: Callable[[Subscription], None],
        end: Callable[[Subscription], None],
    ) -> None:
        self.topic = topic
        self.filter = filter
        self.mode = mode
        self._bounds = bounds
        self._size = 0  # bytes of what is in the queue
        self._request = request
        self._end = end
        self._changed = threading.Condition()  # guards all below
        self._queue: deque[tuple[Event | EventsLostError, int]] = deque()
        self._listeners: list[threading.Event] = []
        self._failure: BaseException | None = None
        self._closed = False
        self._is_paused = False
        self._skips = False
        self.id: str | None = None
        self.last_received: Place | None = None  # behind the last event that came in
        self.last_block: AfterBlock | None = None  # likewise, for a topic of blocks
        self._in_log: Position | None = None  # the last position in the log; None while the chain is replayed
        self._position: Place | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.topic} at {self.position}>"

    @property
    def position(self) -> Place | None:
        """Where to resume after the last event that was read, or where the subscription began."""
        return self._position

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @any_thread
    def get(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None if the subscription or its client was closed.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            EventsLostError: events are missing here; the next call continues after them.
            CallTimeoutError: none came in time.
            RpcError: the server ended the subscription for good, such as for a permission that was taken away.
        """
        deadline = None if timeout is None else Deadline(monotonic, timeout)
        while True:
            with self._changed:
                if self._queue:
                    found, size = self._queue.popleft()
                    self._size -= size
                    self._position = found.now if isinstance(found, EventsLostError) else found.since
                    if isinstance(found, EventsLostError):
                        raise found
                    return found
                if self._failure is not None:
                    raise self._failure
                if self._closed:
                    return None
                again = self._is_paused
                self._is_paused = False
                if not again and not self._changed.wait(None if deadline is None else deadline.remaining()):
                    raise CallTimeoutError(f"no event of {self.topic} in time")
            if again:
                self._request(self)

    @any_thread
    def get_now(self) -> Event | None:
        """Return the next event if it is there, or None. Raises what `get` raises but for the time."""
        try:
            return self.get(0.0)
        except CallTimeoutError:
            return None

    @any_thread
    def close(self) -> None:
        """End the subscription."""
        self._end(self)
        self.finish(None)

    @any_thread
    def params(self, since: Place | None) -> dict[str, Any]:
        """Return the params of `subscribe`."""
        position = None if since is None else place_as_json(since)
        found = {"topic": self.topic, "filter": self.filter, "since": position, "mode": self.mode}
        return {name: value for name, value in found.items() if value is not None}

    # Called by the client's reading thread

    @any_thread
    def begin(self, reply: dict[str, Any], since: Place | None, refused: dict[str, Any] | None = None) -> None:
        """Record the reply to `subscribe`: the subscription continues at the place `since`, or events are lost.

        Args:
            reply: the reply.
            since: where it was asked to continue.
            refused: the reply that it could not continue in the log, if it was asked to continue in the chain for that.
        """
        in_log = Position(reply["epoch"], reply["seq"]) if "epoch" in reply else None
        now = as_place(reply["since"]) if "since" in reply else in_log
        assert now is not None
        with self._changed:
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
                self._put(
                    EventsLostError(self.topic, first.get("detail") or first.get("reason", "gap"), before, now), 0
                )
            if self._position is None:
                self._position = self.last_received
            self._notify_all()

    @any_thread
    def notify(self, params: dict[str, Any], size: int = 0) -> bool:
        """Add an event, whose message has `size` bytes. Return whether there is room for another."""
        with self._changed:
            if self._is_paused or self._closed or self.last_received is None:
                return True
            data, place = params["result"], self._place_after(params)
            if place is None:
                return True
            self._put(Event(self.topic, params.get("seq"), params.get("epoch"), data, place), size)
            self.last_received = place
            if self.topic == "blocks" and not self._skips:
                self.last_block = block_after(data)
            self._notify_all()
            return len(self._queue) < self._bounds.events and self._size < self._bounds.size

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
        self._queue.append((found, size))
        self._size += size

    def _notify_all(self) -> None:
        self._changed.notify_all()
        for listener in self._listeners:
            listener.set()

    @any_thread
    def add_listener(self, listener: threading.Event) -> None:
        """Set an event whenever there is something to read, and now."""
        with self._changed:
            self._listeners.append(listener)
        listener.set()

    @property
    def has_something(self) -> bool:
        """Whether `get` returns, or raises, at once."""
        with self._changed:
            return bool(self._queue or self._closed or self._is_paused)

    @any_thread
    def pause(self) -> None:
        """Record that the server sends no more events. The reader subscribes again after the last event in the queue."""
        with self._changed:
            self._is_paused = True
            self._notify_all()

    @any_thread
    def ended(self, error: dict[str, Any]) -> bool:
        """Record that the server has ended the subscription. Return whether to subscribe again."""
        if error.get("code") in RETRYABLE:
            return True
        self.finish(RpcError(int(error.get("code", 0)), str(error.get("message", "")), error.get("data")))
        return False

    @any_thread
    def finish(self, failure: BaseException | None) -> None:
        """End the iteration."""
        with self._changed:
            self._closed = True
            if self._failure is None:
                self._failure = failure
            self._notify_all()

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_paused(self) -> bool:
        """Whether it accepts no events until its reader has read the queue."""
        return self._is_paused
