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

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RETRYABLE", "Event", "Subscription"]

RETRYABLE = (JsonRpcCode.EVENTS_LOST, JsonRpcCode.SERVER_BUSY, JsonRpcCode.RATE_LIMITED)
"""Errors after which a subscription is worth another try."""


class Event(NamedTuple):
    """One event.

    Attributes:
        topic: what was subscribed to.
        seq: its number in its topic.
        epoch: of which numbering.
        data: what was published.
    """

    topic: str
    seq: int
    epoch: str
    data: Any

    @property
    def position(self) -> Position:
        """The position after this event, from which a later subscription can continue."""
        return Position(self.epoch, self.seq)


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
        max_queued: int,
        request: Callable[[Subscription], None],
        end: Callable[[Subscription], None],
    ) -> None:
        self.topic = topic
        self.filter = filter
        self.mode = mode
        self._max_queued = max_queued
        self._request = request
        self._end = end
        self._changed = threading.Condition()  # guards all below
        self._queue: deque[Event | EventsLostError] = deque()
        self._failure: BaseException | None = None
        self._closed = False
        self._is_paused = False
        self._skips = False
        self.id: str | None = None
        self.last_received: Position | None = None  # behind the last event that came in
        self._position: Position | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.topic} at {self.position}>"

    @property
    def position(self) -> Position | None:
        """The position of the last event that was read, or the one at which it began."""
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
                    found = self._queue.popleft()
                    self._position = found.now if isinstance(found, EventsLostError) else found.position
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
    def close(self) -> None:
        """End the subscription."""
        self._end(self)
        self.finish(None)

    @any_thread
    def params(self, since: Position | None) -> dict[str, Any]:
        """Return the params of `subscribe`."""
        position = None if since is None else {"epoch": since.epoch, "seq": since.seq}
        found = {"topic": self.topic, "filter": self.filter, "since": position, "mode": self.mode}
        return {name: value for name, value in found.items() if value is not None}

    # Called by the client's reading thread

    @any_thread
    def begin(self, reply: dict[str, Any], since: Position | None) -> None:
        """Record the reply to `subscribe`: the subscription continues at the position `since`, or events are lost."""
        now = Position(reply["epoch"], reply["seq"])
        with self._changed:
            self.id = reply["subscription"]
            self._skips = reply.get("mode") == "latest"
            if since is None:
                self.last_received = now
            elif reply.get("recovered"):
                self.last_received = since
            else:
                self.last_received = now
                self._queue.append(EventsLostError(self.topic, reply.get("reason", "gap"), since, now))
            if self._position is None:
                self._position = self.last_received
            self._changed.notify_all()

    @any_thread
    def notify(self, params: dict[str, Any]) -> bool:
        """Add an event. Return whether there is room for another."""
        with self._changed:
            if (
                self._is_paused
                or self._closed
                or self.last_received is None
                or params["epoch"] != self.last_received.epoch
            ):
                return True
            seq, prev = params["seq"], params["prev"]
            if seq <= self.last_received.seq:
                return True
            if prev > self.last_received.seq and not self._skips:
                lost = EventsLostError(self.topic, "gap", self.last_received, Position(params["epoch"], prev))
                self._queue.append(lost)
            self._queue.append(Event(self.topic, seq, params["epoch"], params["result"]))
            self.last_received = Position(params["epoch"], seq)
            self._changed.notify_all()
            return len(self._queue) < self._max_queued

    @any_thread
    def pause(self) -> None:
        """Record that the server sends no more events. The reader subscribes again after the last event in the queue."""
        with self._changed:
            self._is_paused = True
            self._changed.notify_all()

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
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_paused(self) -> bool:
        """Whether it accepts no events until its reader has read the queue."""
        return self._is_paused
