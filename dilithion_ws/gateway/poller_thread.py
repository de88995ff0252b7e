"""The thread that watches the node, for as long as this gateway is the one that does."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from .. import NotLeadingError, RpcError, WebSocketServer
from .dialects.base import Dialect
from .gateway_config import GatewayConfig
from .node_client import NodeClient
from .node_queries import NodeQueries
from .node_status import StatusTracker
from .poll_schedule import PollSchedule
from .poller import NodePoller
from .snapshots import VIEWS_TOPIC, SnapshotStore
from .upstream_errors import UpstreamError, UpstreamErrorKind, trouble

__all__ = ["NODE_TOPIC", "TOPICS", "PollerThread"]

logger = logging.getLogger("dilithion_ws.gateway")

NODE_TOPIC = "node"
TOPICS = ("blocks", "mempool", "peers", "mining", NODE_TOPIC, VIEWS_TOPIC)

_STANDBY_SECONDS = 0.1
_STOP_SECONDS = 2.0
_AFTER_HINT = 0.1


class PollerThread:
    """See above.

    Args:
        node: the node.
        server: where events are published.
        config: bounds.
        found: called when the dialect has been found out.
        clock: seconds that never go backwards.

    Attributes:
        states: how the node is doing, as this gateway knows it.
        looks: looks at the node so far.
    """

    def __init__(
        self,
        node: NodeClient,
        server: WebSocketServer,
        config: GatewayConfig,
        found: Callable[[Dialect], None],
        clock: Callable[[], float],
    ) -> None:
        self._node = node
        self._server = server
        self._config = config
        self._found = found
        self._clock = clock
        self.pace = PollSchedule(config)
        self.states = StatusTracker()
        self.looks = 0
        self._leadership = server.events.lead(TOPICS)
        self._term = 0
        self._watch: NodePoller | None = None
        self._keeping = SnapshotStore(server, self._publish, self._begin_anew, clock)
        self._calling = threading.Condition()  # guards the two below
        self._called = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-watcher", daemon=True)

    def start(self) -> None:
        """Starts to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ends watching; a look that is under way is waited for a moment, and then left."""
        with self._calling:
            self._stopping = True
            self._calling.notify_all()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def is_leading(self) -> bool:
        """Whether this gateway is the one that watches."""
        return bool(self._leadership.term)

    def hint(self) -> None:
        """Has the node looked at soon, from any thread."""
        with self._calling:
            self._called = True
            self._calling.notify_all()

    def _run(self) -> None:
        called = False
        while not self._stopping:
            try:
                interval, rest = self._step()
            except Exception:
                logger.exception("a look at the node failed; going on")
                interval = rest = self._config.poll_longest
            with self._calling:
                if called:  # what happened just behind the hint may have none of its own
                    interval = min(interval, _AFTER_HINT)
                self._calling.wait_for(lambda: self._stopping, rest)
                self._calling.wait_for(lambda: self._stopping or self._called, max(0.0, interval - rest))
                called, self._called = self._called, False

    def _step(self) -> tuple[float, float]:
        """Looks once where that is this gateway's part; returns the pauses until the next look, see `PollSchedule`."""
        term = self._leadership.term
        if term != self._term:
            self._term, self._watch, self.states = term, None, StatusTracker()
        known = self._node.dialect is not None
        started = self._clock()
        try:
            dialect = self._node.detect(self._config.poll_timeout)
            if not known:
                self._found(dialect)
            if not term:
                return _STANDBY_SECONDS, _STANDBY_SECONDS
            if self._watch is None:
                self._watch = self._take_over(dialect)
            self.looks += 1
            info = self._watch.look()
            self._publish_state(self.states.answered(info))
            self._keeping.keep(self._watch.views)
        except NotLeadingError as error:
            logger.info("another gateway watches the node now: %s", error)
            self._watch = None
            return _STANDBY_SECONDS, _STANDBY_SECONDS
        except RpcError as error:
            return self._failed(error, self._clock() - started)
        return self.pace.looked(self._clock() - started)

    def _failed(self, error: RpcError, took: float) -> tuple[float, float]:
        limited = trouble(error) is UpstreamErrorKind.LIMITED
        if self._term and not limited:  # a node that has had enough is not down
            try:
                self._publish_state(self.states.failed(error))
            except NotLeadingError:
                self._watch = None
        return self.pace.failed(took, error.pause if isinstance(error, UpstreamError) else 0.0)

    def _take_over(self, dialect: Dialect) -> NodePoller:
        """Goes on where another gateway, or an earlier run, has left off."""
        told = self._last_block()
        self._keeping = keeping = SnapshotStore(self._server, self._publish, self._begin_anew, self._clock)
        views = keeping.recall()
        logger.info("watching the node from %s", "its tip" if told is None else f"block {told['height']}")
        return NodePoller(
            self._node.batch,
            NodeQueries(dialect),
            keeping.publish,
            keeping.begin_anew,
            keeping.begin,
            self._config,
            told,
            views,
        )

    def _last_block(self) -> dict[str, Any] | None:
        entry = self._server.events.topic("blocks").log.newest()
        return None if entry is None else dict(json.loads(entry.data))

    def _publish(self, topic: str, event: Any) -> None:
        """In the term in which the look has begun, and in no other."""
        self._server.events.publish(topic, event, self._term)

    def _begin_anew(self, topic: str) -> None:
        self._server.events.begin_anew(topic, self._term)

    def _publish_state(self, state: Any) -> None:
        if state is not None:
            self._publish(NODE_TOPIC, state)
