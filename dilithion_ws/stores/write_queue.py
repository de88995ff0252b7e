"""Events between `publish` and a store: in order, bounded, and never lost without a mark."""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import takewhile
from typing import NamedTuple

from ..config.limits import Limits, limit_reached
from ..events.topic import Topic

__all__ = ["WriteQueue", "WriteItem"]

logger = logging.getLogger("dilithion_ws.events")


class WriteItem(NamedTuple):
    """What waits.

    Attributes:
        topic: of which topic.
        data: the event as JSON; None for a new epoch.
        token: of whose leadership it is; empty where that does not matter.
    """

    topic: Topic
    data: bytes | None
    token: str


class WriteQueue:
    """Thread-safe: many put, one takes.

    When it is full, what comes is dropped, and so is everything of the same topic until that has been `told`: then
    the topic's log begins anew, and every client that comes back to the old one is told.

    Args:
        limits: how many events, and how many bytes.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()  # guards all below
        self._queue: deque[WriteItem] = deque()
        self._size = 0
        self._lost: dict[Topic, tuple[int, str]] = {}
        self._rung = False

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, topic: Topic, data: bytes | None, token: str = "") -> None:
        """Adds an event, or drops it where there is no room; None adds a new epoch."""
        with self._changed:
            full = (
                len(self._queue) >= self._limits.history.event_backlog
                or self._size >= self._limits.history.event_backlog_size
            )
            if full or topic in self._lost:
                first = topic not in self._lost
                count, _ = self._lost.get(topic, (0, ""))
                self._lost[topic] = count + 1, token
            else:
                first = False
                self._queue.append(WriteItem(topic, data, token))
                self._size += len(data or b"")
            self._changed.notify_all()
        if first:
            logger.error(
                "events of %s are lost: the store does not take them, past the %s",
                topic.name,
                limit_reached(self._limits, "event_backlog"),
            )

    def ring(self) -> None:
        """Lets a `wait` return."""
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> None:
        """Waits until there is something, at most `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._lost or self._rung, timeout)
            self._rung = False

    def first(self, most: int) -> list[tuple[Topic, bytes, str]]:
        """The oldest events in front of a new epoch; they stay until `done`."""
        with self._changed:
            oldest = (self._queue[at] for at in range(min(most, len(self._queue))))
            return [
                (topic, data, token)
                for topic, data, token in takewhile(lambda item: item.data is not None, oldest)
                if data is not None
            ]

    def epoch(self) -> tuple[Topic, str] | None:
        """The topic for which a new epoch is the oldest, and its token; None where an event is. It stays until `done`."""
        with self._changed:
            if self._queue and self._queue[0].data is None:
                return self._queue[0].topic, self._queue[0].token
            return None

    def done(self, count: int) -> None:
        """Removes the oldest events: they have been kept."""
        with self._changed:
            for _ in range(count):
                self._size -= len(self._queue.popleft().data or b"")

    def lost(self) -> list[tuple[Topic, str]]:
        """Topics of which events were dropped and all earlier ones are kept by now, and the token of the last that was
        dropped; to be told of, and then `told`."""
        with self._changed:
            waiting = {item.topic for item in self._queue}
            return [(topic, token) for topic, (_, token) in self._lost.items() if topic not in waiting]

    def told(self, topic: Topic) -> None:
        """The loss of a topic has been told: what comes from now on is taken again."""
        with self._changed:
            count, _ = self._lost.pop(topic, (0, ""))
        logger.error("%d events of %s were lost; its log has begun anew", count, topic.name)
