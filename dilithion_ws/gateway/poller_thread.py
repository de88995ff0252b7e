"""The thread that polls the node, as long as this gateway is the leader."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec

from .. import NotLeadingError, RpcError, WebSocketServer
from ..util.clock import Clock
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import any_thread, owner_only
from .block_waiters import Tip
from .chain_tracker import ChainBlock, tip_after
from .dialects.base import Dialect
from .failover import Failover
from .gateway_config import GatewayConfig
from .node_client import NodeClient
from .node_poller import NodePoller, Published
from .node_queries import NodeQueries
from .node_status import NodeDown, NodeState, NodeSyncing, NodeUp, StatusTracker
from .poll_schedule import PollSchedule
from .snapshots import VIEWS_TOPIC, SnapshotStore
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["NODE_TOPIC", "TOPICS", "PollerThread", "published_node", "published_tip"]

logger = logging.getLogger("dilithion_ws.gateway")

NODE_TOPIC = "node"
TOPICS = ("blocks", "mempool", "peers", "mining", NODE_TOPIC, VIEWS_TOPIC)

_NOT_DOWN = (UpstreamErrorKind.LIMITED, UpstreamErrorKind.METHOD_LIMITED, UpstreamErrorKind.BUSY)
"""Errors of a node that limits the rate or has much to do. It is up."""
_STANDBY = Pause(0.1, 0.1)
_SOON = Pause(0.0, 0.0)
_LOOK_TIMEOUT = 5.0
"""Seconds for the answer of a standby's node; it must be ready to lead soon."""
_REACHED = {True: "answers", False: "does not answer"}
_AFTER_HINT = 0.1


class PollerThread:
    """Polls the node in a thread.

    Args:
        node: the node.
        server: where events are published.
        config: intervals and limits.
        found: called when the dialect is known.
        clock: seconds that never go backwards.

    Attributes:
        schedule: the intervals.
        status: the state of the node, as this gateway knows it.
        polls: number of polls so far.
        failover: finds another node, or None if there is none.
        leadership: whether this gateway is the one that polls.
    """

    def __init__(
        self,
        node: NodeClient,
        server: WebSocketServer,
        config: GatewayConfig,
        found: Callable[[Dialect], None],
        clock: Clock,
    ) -> None:
        self._node = node
        self._server = server
        self._config = config
        self._found = found
        self._clock = clock
        self.schedule = PollSchedule(config)
        self.status = StatusTracker()
        self.polls = 0
        self.leadership = server.events.lead(TOPICS)
        self._term = 0
        self._poller: NodePoller | None = None
        self._logged: NodeState | None = None
        self.failover: Failover | None = None
        self._reported: Any = None
        self._look_at = 0.0
        self._is_reached = True
        self._snapshots = SnapshotStore(server, 0, clock, time.sleep)
        self._thread = RepeatingThread("dilithion-ws-gateway-poller", self.step, logger, config.poll_longest)

    @any_thread
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @any_thread
    def stop(self, timeout: float) -> None:
        """Stop the thread. Wait `timeout` seconds for a poll that is in progress."""
        self._thread.stop(timeout)

    @any_thread
    def is_leading(self) -> bool:
        """Return whether this gateway is the leader."""
        return bool(self.leadership.term)

    @any_thread
    def mempool_addresses(self) -> dict[str, tuple[str, ...]]:
        """Return the transactions of the mempool that this gateway knows, each with its addresses."""
        poller = self._poller
        view = None if poller is None else poller.views.mempool
        return {} if view is None else view.addresses()

    @any_thread
    def hint(self) -> None:
        """Poll soon. For any thread."""
        self._thread.wake()

    @owner_only
    def step(self, is_hinted: bool) -> Pause:
        """Poll once if this gateway is the leader.

        Args:
            is_hinted: whether a hint has caused this poll. Then the next one follows soon, since what happens just after
                a hint may have none of its own.

        Returns:
            The pause until the next poll. A hint shortens it to the minimum.
        """
        pause = self._poll()
        self._report_health()
        return Pause(pause.minimum, min(pause.maximum, _AFTER_HINT)) if is_hinted else pause

    def _poll(self) -> Pause:
        term = self.leadership.term
        if term != self._term:
            self._term, self._poller, self.status = term, None, StatusTracker()
            self._is_reached = True  # a leader learns by polls
        known = self._node.dialect is not None
        started = self._clock()
        try:
            dialect = self._node.detect(self._config.poll_timeout)
            if not known:
                self._found(dialect)
            if not term:
                self._look_as_standby()
                return _STANDBY
            if self._poller is None:
                self._poller = self._take_over(dialect)
            self.polls += 1
            self._snapshots.start_burst()
            info = self._poller.poll()
            self._publish_state(self.status.answered(info))
            self._snapshots.save(self._poller.views)
        except NotLeadingError as error:
            logger.info("another gateway polls the node now: %s", error)
            self._poller = None
            return _STANDBY
        except RpcError as error:
            return self._failed(error, self._clock() - started)
        return self.schedule.succeeded(self._clock() - started)

    def _failed(self, error: RpcError, took: float) -> Pause:
        if _has_failed(error) and self._use_another_node():
            return _SOON
        struggles = isinstance(error, UpstreamError) and error.kind in _NOT_DOWN
        if self._term and not struggles:
            try:
                self._publish_state(self.status.failed(error))
            except NotLeadingError:
                self._poller = None
        return self.schedule.failed(took, error.pause if isinstance(error, UpstreamError) else 0.0)

    def _look_as_standby(self) -> None:
        """Ask the own node for a sign of life, at the interval of polls: clients' calls go there all the same."""
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + self._config.poll_interval
        try:
            self._node.call("getblockcount", b"", min(self._config.poll_timeout, _LOOK_TIMEOUT))
            is_reached = True
        except RpcError as error:
            is_reached = not _has_failed(error) or self._use_another_node()
        if is_reached != self._is_reached:
            self._is_reached, self._reported = is_reached, None
            logger.log(
                logging.INFO if is_reached else logging.ERROR, "this gateway's own node %s", _REACHED[is_reached]
            )

    def _use_another_node(self) -> bool:
        failover = self.failover
        return failover is not None and failover.switch(published_tip(self._server), self._node.dialect)

    def _take_over(self, dialect: Dialect) -> NodePoller:
        """Continue where another gateway, or an earlier run, has ended."""
        tip = _published_block(self._server)
        self._snapshots = SnapshotStore(self._server, self._term, self._clock, time.sleep)
        published = Published(tip, self._snapshots.restore())
        logger.info("polling the node from %s", "its tip" if tip is None else f"block {tip.height}")
        return NodePoller(self._node, NodeQueries(dialect), self._snapshots, self._config, published)

    def _publish_state(self, state: NodeState | None) -> None:
        """Publish a state that has changed, and write one line about it."""
        if state is None:
            return
        self._server.events.publish(NODE_TOPIC, state, self._term)
        if isinstance(state, NodeDown):
            logger.error("the node is down: %s", state.reason)
        elif isinstance(state, NodeUp):
            logger.info("the node is up, at height %d", state.blocks)
        elif not isinstance(self._logged, NodeSyncing):
            logger.info("the node is syncing: block %d of %d", state.blocks, state.headers)
        self._logged = state

    def _report_health(self) -> None:
        """Report what is known of the node, also from another gateway, for `/health`."""
        entry = self._server.events.topic(NODE_TOPIC).log.newest()
        if entry is self._reported and entry is not None:
            return
        state = published_node(self._server, self.status)
        is_good = state["kind"] == "up" and self._is_reached
        more = {} if self._is_reached else {"reached": False}
        self._server.health.report("node", is_good, {"state": state.pop("kind"), **state, **more})
        self._reported = entry


def published_tip(server: WebSocketServer) -> Tip | None:
    """Return the last published block, of this gateway or of another one on the same store."""
    block = _published_block(server)
    return None if block is None else Tip(block.height, block.hash)


def published_node(server: WebSocketServer, status: StatusTracker) -> dict[str, Any]:
    """Return the last published state of the node, or that of a tracker if there is none yet."""
    entry = server.events.topic(NODE_TOPIC).log.newest()
    state: dict[str, Any] = msgspec.to_builtins(status.last) if entry is None else json.loads(entry.data)
    return state


def _published_block(server: WebSocketServer) -> ChainBlock | None:
    entry = server.events.topic("blocks").log.newest()
    return None if entry is None else tip_after(json.loads(entry.data))


def _has_failed(error: RpcError) -> bool:
    """Return whether an error shows that another node should be used. One that only has much to do is used on."""
    return not isinstance(error, UpstreamError) or error.kind not in _NOT_DOWN
