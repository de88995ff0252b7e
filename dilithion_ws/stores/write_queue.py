"""A bounded FIFO of events that wait to be stored. Overflow is recorded per topic and reported as a new epoch."""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import takewhile
from typing import NamedTuple

from ..config.limits import Limits, limit_reached
from ..events.topic import Topic
from ..util.thread_contracts import any_thread, owner_only

__all__ = ["Loss", "NewEpoch", "QueuedEvent", "WriteQueue"]

logger = logging.getLogger("dilithion_ws.events")


class QueuedEvent(NamedTuple):
    """An event to store.

    Attributes:
        topic: its topic.
        data: the event as JSON.
        token: the fencing token of the leadership under which it was published, or "".
    """

    topic: Topic
    data: bytes
    token: str


class NewEpoch(NamedTuple):
    """A new epoch to start. `topic` and `token` as in `QueuedEvent`."""

    topic: Topic
    token: str


class Loss(NamedTuple):
    """A topic of which events were dropped, and the fencing token of the last one."""

    topic: Topic
    token: str


class _Overflow(NamedTuple):
    dropped: int
    token: str


class WriteQueue:
    """Any number of threads add events, and one thread stores them. Thread-safe.

    If the queue is full, an event is dropped, and so is every later event of its topic until the loss is acknowledged:
    then the topic starts a new epoch, and readers of the old one learn of the loss. So no reader crosses a gap unnoticed.

    Args:
        limits: how many events, and how many bytes.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()  # guards all below
        self._items: deque[QueuedEvent | NewEpoch] = deque()
        self._size = 0
        self._overflows: dict[Topic, _Overflow] = {}
        self._is_woken = False

    def __len__(self) -> int:
        return len(self._items)

    @any_thread
    def put(self, topic: Topic, data: bytes | None, token: str = "") -> None:
        """Add an event, or drop it if there is no room. None adds a new epoch."""
        history = self._limits.history
        with self._changed:
            full = len(self._items) >= history.event_backlog or self._size >= history.event_backlog_size
            is_first_loss = False
            if full or topic in self._overflows:
                is_first_loss = topic not in self._overflows
                count = 0 if is_first_loss else self._overflows[topic].dropped
                self._overflows[topic] = _Overflow(count + 1, token)
            else:
                self._items.append(NewEpoch(topic, token) if data is None else QueuedEvent(topic, data, token))
                self._size += len(data or b"")
            self._changed.notify_all()
        if is_first_loss:
            logger.error(
                "events of %s are lost: the store does not accept them, past the %s",
                topic.name,
                limit_reached(self._limits, "event_backlog"),
            )

    @any_thread
    def wake(self) -> None:
        """Let the present or the next `wait` return."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    # The storing thread

    @owner_only
    def wait(self, timeout: float | None) -> None:
        """Block until there is something to do, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._overflows or self._is_woken, timeout)
            self._is_woken = False

    @owner_only
    def next_events(self, max_count: int) -> list[QueuedEvent]:
        """Return the oldest events before the next new epoch. They remain in the queue until `remove`."""
        with self._changed:
            oldest = (self._items[index] for index in range(min(max_count, len(self._items))))
            return list(takewhile(lambda item: isinstance(item, QueuedEvent), oldest))  # type: ignore[arg-type]

    @owner_only
    def next_epoch(self) -> NewEpoch | None:
        """Return the oldest item if it is a new epoch, otherwise None. It remains in the queue until `remove`."""
        with self._changed:
            item = self._items[0] if self._items else None
            return item if isinstance(item, NewEpoch) else None

    @owner_only
    def remove(self, count: int) -> None:
        """Remove the oldest items, which were stored."""
        with self._changed:
            for _ in range(count):
                item = self._items.popleft()
                if isinstance(item, QueuedEvent):
                    self._size -= len(item.data)

    @owner_only
    def topics(self) -> list[Topic]:
        """Return the topics of what is in the queue, or was dropped."""
        with self._changed:
            return list(dict.fromkeys([*(item.topic for item in self._items), *self._overflows]))

    @owner_only
    def losses(self) -> list[Loss]:
        """Return the topics that have lost events, and whose earlier events are all stored."""
        with self._changed:
            queued = {item.topic for item in self._items}
            return [Loss(topic, overflow.token) for topic, overflow in self._overflows.items() if topic not in queued]

    @owner_only
    def acknowledge(self, topic: Topic) -> None:
        """Accept events of a topic again, after its new epoch was started."""
        with self._changed:
            overflow = self._overflows.pop(topic, _Overflow(0, ""))
        logger.error("%d events of %s were lost; its log has started a new epoch", overflow.dropped, topic.name)
