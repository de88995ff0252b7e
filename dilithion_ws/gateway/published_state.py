"""What is known of the node: the latest published events, of this gateway or of another one on the same store. No I/O."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from .. import WebSocketServer
from ..util.clock import Clock
from .block_waiters import Tip
from .dialects.base import Dialect
from .node_client import NodeClient
from .poller_thread import PollerThread, published_node, published_tip

__all__ = ["PublishedState"]


class PublishedState:
    """Reads the logs of a gateway's topics.

    Args:
        server: has the logs.
        node: knows the dialect.
        poller: knows the state of the node before anything was published.
        clock: seconds that never go backwards.
    """

    def __init__(self, server: WebSocketServer, node: NodeClient, poller: PollerThread, clock: Clock) -> None:
        self._clock = clock
        self._server = server
        self._node = node
        self._poller = poller

    def dialect(self) -> Dialect | None:
        """Return the node's dialect, or None if it is not known yet."""
        return self._node.dialect

    def tip(self) -> Tip | None:
        """Return the last published block."""
        return published_tip(self._server)

    def node_state(self) -> dict[str, Any]:
        """Return how the node is doing: up, down with a reason, or syncing with its progress."""
        return published_node(self._server, self._poller.status)

    def clock(self) -> float:
        """Return seconds that never go backwards."""
        return self._clock()

    def look_at_node(self) -> None:
        """Have the node polled soon."""
        self._poller.hint()

    def progress(self) -> float | None:
        """Return the part of the blocks that the node has, or None while it is down."""
        state = self.node_state()
        return {"up": 1.0, "syncing": state.get("progress")}.get(state["kind"])

    def tip_version(self) -> Hashable | None:
        """Return what changes with the tip, or None if nothing was published yet."""
        log = self._server.events.topic("blocks").log
        return None if log.newest() is None else log.position

    def mempool_version(self) -> Hashable | None:
        """Return what changes with the tip or the mempool, or None if they are not known."""
        tip = self.tip_version()
        return None if tip is None else (tip, self._server.events.topic("mempool").log.position)
