"""The state of the node, as the topic `node` has it: up, down, or syncing. No I/O."""

from __future__ import annotations

import msgspec

from .. import RpcError
from .node_queries import NodeInfo
from .upstream_errors import UpstreamError

__all__ = ["NodeDown", "NodeState", "NodeSyncing", "NodeUp", "StatusTracker"]

_MAX_REASON = 300
"""Characters of a reason, which the node may have written."""
_STEP = 0.01
"""Change of the progress that is published."""


class NodeUp(msgspec.Struct, tag_field="kind", tag="up", frozen=True):
    """The node answers, and has all blocks that it knows of. `blocks` is its height when this was published."""

    blocks: int


class NodeSyncing(msgspec.Struct, tag_field="kind", tag="syncing", frozen=True):
    """The node answers, and is still loading blocks: how many it has, how many it knows of, and the part, from 0 to 1."""

    blocks: int
    headers: int
    progress: float


class NodeDown(msgspec.Struct, tag_field="kind", tag="down", frozen=True):
    """The node does not answer, for this reason."""

    reason: str


NodeState = NodeUp | NodeSyncing | NodeDown


class StatusTracker:
    """The last published state, so that only changes are published."""

    def __init__(self) -> None:
        self.last: NodeState = NodeDown("it has not been asked yet")
        self._published: NodeState | None = None

    def answered(self, info: NodeInfo) -> NodeState | None:
        """Record an answer. Return the state to publish, or None."""
        if not info.initialblockdownload:
            return self._change(NodeUp(info.blocks))
        headers = max(info.blocks, info.headers or 0)
        progress = info.blocks / headers if info.verificationprogress is None and headers else info.verificationprogress
        return self._change(NodeSyncing(info.blocks, headers, round(min(1.0, progress or 0.0), 4)))

    def failed(self, error: RpcError) -> NodeState | None:
        """Record a failure. Return the state to publish, or None.

        An error of the node itself, such as -28, means that it is starting.
        """
        text = error.message.removeprefix("Server busy: ")[:_MAX_REASON]
        return self._change(NodeDown(text if isinstance(error, UpstreamError) else f"it is not ready: {text}"))

    def _change(self, state: NodeState) -> NodeState | None:
        self.last, published = state, self._published
        same = type(state) is type(published)
        if same and isinstance(state, NodeSyncing) and isinstance(published, NodeSyncing):
            same = abs(state.progress - published.progress) < _STEP
        if same and isinstance(state, NodeDown):
            same = state == published
        if same:
            return None
        self._published = state
        return state
