"""What the hub requires of a durable store, and what a store requires of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..util.clock import Deadline
from .cursor import EndOfStream
from .election import Leadership
from .topic import Topic

__all__ = ["EventStore", "LogWriter", "StoreStatus"]


class LogWriter(Protocol):
    """Makes stored events visible. Implemented by `EventHub`."""

    def append(self, topic: Topic, data: bytes, seq: int | None = None) -> None:
        """Append an event that was stored, and deliver it."""

    def announce(self, topic: Topic) -> None:
        """Wake the shards after the log of a topic was changed."""

    def end_all(self, topic: Topic, end: EndOfStream) -> None:
        """End all subscriptions to a topic by an error."""

    def topics(self) -> Sequence[Topic]:
        """Return the topics of the node and the host."""


class StoreStatus(NamedTuple):
    """How a store is.

    Attributes:
        kind: `sqlite` or `redis`.
        fault: the kind of fault because of which events are kept in memory, or wait; "" if there is none.
        detail: the words of the fault.
        damaged: how many stored events were not as they had been written.
    """

    kind: str
    fault: str
    detail: str
    damaged: int


class EventStore(Protocol):
    """Keeps events.

    `publish` stores an event. Once it is stored, the store appends it to the log by `LogWriter.append`, and only then
    clients see it. So every event that a client has seen exists after a restart.
    """

    @property
    def status(self) -> StoreStatus:
        """How it is now."""

    def start(self, writer: LogWriter) -> None:
        """Open the store and load the logs of all topics. Raises ConfigError if it cannot be used at all."""

    def stop(self, deadline: Deadline) -> None:
        """Store what was published, and close the store."""

    def attach(self, topic: Topic) -> None:
        """Take over a new topic. Its `availability` is LOADING until its history was read."""

    def detach(self, topic: Topic) -> None:
        """Drop a topic and its stored events."""

    def forget(self, topic: Topic) -> None:
        """Drop a topic for good, with what is stored of it for other servers, too."""

    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Store an event. Any thread, without blocking. Raises NotLeadingError if the term is over."""

    def start_new_epoch(self, topic: Topic, term: int = 0) -> None:
        """Start a new epoch after the events published so far. It does not block, and raises like `publish`."""

    def lead(self, topics: Sequence[Topic]) -> Leadership:
        """See `EventHub.lead`."""
