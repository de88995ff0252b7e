"""What the views were, kept among the events, so that whoever watches next can go on from there.

Now and then, and when it has told a lot, the gateway that watches publishes its views to a topic of its own, with the
places in the logs of `mempool`, `peers` and `mining` that they belong to. Who takes over reads the last of these, and
then the events behind those places. Where these are gone, or the views were too large to be kept, a topic begins anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from .. import EventError, WebSocketServer
from .node_view import MempoolView, MiningView, NodeView, PeersView

__all__ = ["VIEWED", "VIEWS_TOPIC", "SnapshotStore"]

logger = logging.getLogger("dilithion_ws.gateway")

VIEWS_TOPIC = "node/views"
VIEWED = ("mempool", "peers", "mining")
_KINDS: dict[str, Any] = {"mempool": MempoolView, "peers": PeersView, "mining": MiningView}

_SECONDS = 10.0
_EVENTS = 200
"""After which views that have changed are kept again: well within what a log keeps by default."""


class SnapshotStore:
    """The views of one term.

    Args:
        server: where the logs are.
        term: the term in which events are published; see `EventHub.publish`.
        clock: seconds that never go backwards.
    """

    def __init__(self, server: WebSocketServer, term: int, clock: Callable[[], float]) -> None:
        self._server = server
        self._term = term
        self._clock = clock
        self._heads: dict[str, int] = {}  # where the logs will be, once all that was published has come back
        self._left: dict[str, str] = {}  # epochs that are over
        self._kept: dict[str, int] | None = None
        self._kept_at = 0.0

    def restore(self) -> NodeView:
        """The views as they were told last; those that nobody knows any more begin with what the node says next."""
        newest = None if self._is_idle else self._server.events.topic(VIEWS_TOPIC).log.newest()
        kept: dict[str, Any] = {} if newest is None else json.loads(newest.data)
        found: dict[str, Any] = {}
        for name in VIEWED:
            topic = self._server.events.topic(name)
            self._heads[name] = topic.log.position.seq
            state, place = kept.get(name), kept.get("places", {}).get(name)
            events = None if state is None or place is None else topic.since(*place)
            if events is None:
                continue
            view = found[name] = _KINDS[name].of(state)
            for event in events:
                view.apply(event)
        return NodeView(**found)

    def begin(self, name: str) -> None:
        """A topic begins with what the node says now: whoever was reading it is told."""
        # A log in memory that is still empty has no reader who could have missed anything.
        if not self._is_idle or self._server.events.topic(name).log.position.seq:
            self.start_new_epoch(name)

    def publish(self, topic: str, event: Any) -> None:
        """Publishes, and counts; for an event that can't be published its topic begins anew."""
        try:
            self._server.events.publish(topic, event, self._term)
        except EventError as error:
            logger.error("an event is lost: %s", error)
            self.start_new_epoch(topic)
            return
        if topic in self._heads:
            self._heads[topic] += 1

    def start_new_epoch(self, topic: str) -> None:
        """Begins a topic anew."""
        self._left[topic] = self._server.events.topic(topic).log.position.epoch
        self._server.events.start_new_epoch(topic, self._term)
        self._heads[topic] = 0

    def save(self, views: NodeView) -> None:
        """Keeps the views, where they have changed and it is time."""
        if self._is_idle or not self._is_due():
            return
        places = {}
        for name in VIEWED:
            epoch, seq = self._server.events.topic(name).log.position
            if seq != self._heads[name] or epoch == self._left.get(name):
                return  # not all that was published has come back; the next time
            places[name] = [epoch, seq]
        states = {
            "places": places,
            "mempool": None if views.mempool is None else views.mempool.state(),
            "peers": views.peers.state(),
            "mining": views.mining.state(),
        }
        try:
            self._server.events.publish(VIEWS_TOPIC, states, self._term)
        except EventError as error:  # too large, as a rule
            logger.info("the mempool is not kept for whoever watches next: %s", error)
            self._server.events.publish(VIEWS_TOPIC, {**states, "mempool": None}, self._term)
        self._kept, self._kept_at = dict(self._heads), self._clock()

    @property
    def _is_idle(self) -> bool:
        """Whether nobody can come after: the logs end with the process."""
        return self._server.config.event_store == "memory"

    def _is_due(self) -> bool:
        if self._kept is None:
            return True
        changes = sum(abs(self._heads[name] - self._kept[name]) for name in VIEWED)
        return changes >= _EVENTS or (changes > 0 and self._clock() - self._kept_at >= _SECONDS)
