"""Snapshots of the views, published as events, from which the next leader continues.

At intervals, and after many events, the leading gateway publishes its views to a topic of their own, with the positions
in the logs of `mempool`, `peers` and `mining` that they belong to. A new leader reads the last snapshot, and then the
events after those positions. If these are gone, or the views were too large for a snapshot, the topic starts a new epoch.
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

_PACE_EVENTS = 64
"""Events after which the lag of subscribers is looked at."""
_PACE_SECONDS, _PACE_LONGEST, _BURST_LONGEST = 0.005, 1.0, 5.0
"""Seconds between two looks, for all looks after so many events, and for all of a poll."""
_SECONDS = 10.0
_EVENTS = 200
"""Seconds and events after which changed views are saved again: well within what a log keeps by default."""


class SnapshotStore:
    """The snapshots of one term.

    Args:
        server: where the logs are.
        term: the term in which events are published; see `EventHub.publish`.
        clock: seconds that never go backwards.
        sleep: waits for some seconds.
    """

    def __init__(
        self, server: WebSocketServer, term: int, clock: Callable[[], float], sleep: Callable[[float], object]
    ) -> None:
        self._server = server
        self._term = term
        self._clock = clock
        self._heads: dict[str, int] = {}  # where the logs will end, once all that was published has arrived
        self._ended_epochs: dict[str, str] = {}  # epochs that have ended
        self._burst = 0
        self._burst_ends = 0.0
        self._sleep = sleep
        self._saved: dict[str, int] | None = None
        self._saved_at = 0.0

    def restore(self) -> NodeView:
        """Return the views as they were last published. Those that are lost begin with the next poll."""
        newest = None if self._is_idle else self._server.events.topic(VIEWS_TOPIC).log.newest()
        saved: dict[str, Any] = {} if newest is None else json.loads(newest.data)
        found: dict[str, Any] = {}
        for name in VIEWED:
            topic = self._server.events.topic(name)
            self._heads[name] = topic.log.position.seq
            state, position = saved.get(name), saved.get("places", {}).get(name)
            events = None if state is None or position is None else topic.since(*position)
            if events is None:
                continue
            view = found[name] = _KINDS[name].of(state)
            for event in events:
                view.apply(event)
        return NodeView(**found)

    def start_topic(self, name: str) -> None:
        """Start a topic with the present state of the node. Its readers receive an error."""
        # A log in memory that is still empty has no reader who could have missed anything.
        if not self._is_idle or self._server.events.topic(name).log.position.seq:
            self.start_new_epoch(name)

    def publish(self, topic: str, event: Any) -> None:
        """Publish an event, and count it. If it cannot be published, its topic starts a new epoch."""
        try:
            self._server.events.publish(topic, event, self._term)
        except EventError as error:
            logger.error("an event is lost: %s", error)
            self.start_new_epoch(topic)
            return
        if topic in self._heads:
            self._heads[topic] += 1
        self._pace(topic)

    def _pace(self, topic: str) -> None:
        """Wait for subscribers after many events: thousands at once would be dropped before prompt readers have them.

        One that does not read holds up the publisher for a moment only, at each burst.
        """
        self._burst += 1
        if self._burst % _PACE_EVENTS:
            return
        allowed = self._server.config.limits.history.history_entries // 2
        until = min(self._clock() + _PACE_LONGEST, self._burst_ends)
        while self._server.events.cursors.lag(topic) > allowed and self._clock() < until:
            self._sleep(_PACE_SECONDS)

    def start_burst(self) -> None:
        """Begin to count the events of a poll."""
        self._burst, self._burst_ends = 0, self._clock() + _BURST_LONGEST

    def start_new_epoch(self, topic: str) -> None:
        """Start a new epoch of a topic."""
        self._ended_epochs[topic] = self._server.events.topic(topic).log.position.epoch
        self._server.events.start_new_epoch(topic, self._term)
        self._heads[topic] = 0

    def save(self, views: NodeView) -> None:
        """Publish a snapshot, if the views have changed and it is due."""
        if self._is_idle or not self._is_due():
            return
        positions = {}
        for name in VIEWED:
            epoch, seq = self._server.events.topic(name).log.position
            if seq != self._heads[name] or epoch == self._ended_epochs.get(name):
                return  # not everything that was published has arrived; the next time
            positions[name] = [epoch, seq]
        states = {
            "places": positions,
            "mempool": None if views.mempool is None else views.mempool.state(),
            "peers": views.peers.state(),
            "mining": views.mining.state(),
        }
        try:
            self._server.events.publish(VIEWS_TOPIC, states, self._term)
        except EventError as error:  # too large, as a rule
            logger.info("the mempool is not saved for the next leader: %s", error)
            self._server.events.publish(VIEWS_TOPIC, {**states, "mempool": None}, self._term)
        self._saved, self._saved_at = dict(self._heads), self._clock()

    @property
    def _is_idle(self) -> bool:
        """Whether there can be no other leader: the logs end with the process."""
        return self._server.config.event_store == "memory"

    def _is_due(self) -> bool:
        if self._saved is None:
            return True
        changes = sum(abs(self._heads[name] - self._saved[name]) for name in VIEWED)
        return changes >= _EVENTS or (changes > 0 and self._clock() - self._saved_at >= _SECONDS)
