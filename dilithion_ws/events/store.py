"""What the hub needs of a store: somewhere that numbers events and keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..util.clock import Deadline

if TYPE_CHECKING:
    from .election import Leadership
    from .hub import EventHub
    from .topic import Topic

__all__ = ["EventStore"]


class EventStore(Protocol):
    """Events go in by `publish`, and come back by the hub's `append` once they are kept: only then clients see them, so
    that what a client has seen is there after a restart."""

    def start(self, hub: EventHub) -> None:
        """Opens it, and fills the logs of the hub's topics. Raises ConfigError where it can't be used at all."""

    def stop(self, deadline: Deadline) -> None:
        """Keeps what has been published, and closes it."""

    def adopt(self, topic: Topic) -> None:
        """Takes a new topic in; sets its `unavailable` while what it kept of it is not there yet."""

    def forget(self, topic: Topic) -> None:
        """Drops a topic and all that was kept of it."""

    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Takes an event, from any thread and without waiting; raises NotLeadingError where its term is over."""

    def begin_anew(self, topic: Topic, term: int = 0) -> None:
        """Gives a topic a new epoch, behind what has been published; likewise."""

    def lead(self, topics: list[Topic]) -> Leadership:
        """See `EventHub.lead`."""
