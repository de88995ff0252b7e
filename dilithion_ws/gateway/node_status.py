"""How the node is doing, as the topic `node` has it: up, down, or syncing. No I/O."""

from __future__ import annotations

import msgspec

from .. import RpcError
from .node_queries import NodeInfo
from .upstream_errors import UpstreamError

__all__ = ["NodeDown", "NodeState", "NodeSyncing", "NodeUp", "StatusTracker"]

_STEP = 0.01
"""By how much the progress must change to be told again."""


class NodeUp(msgspec.Struct, tag_field="kind", tag="up", frozen=True):
    """It answers, and has all blocks that it knows of; `blocks` is its height when this was told."""

    blocks: int


class NodeSyncing(msgspec.Struct, tag_field="kind", tag="syncing", frozen=True):
    """It answers, and is still loading blocks: how many it has, knows of, and how far that is, from 0 to 1."""

    blocks: int
    headers: int
    progress: float


class NodeDown(msgspec.Struct, tag_field="kind", tag="down", frozen=True):
    """It does not answer; the reason in words."""

    reason: str


NodeState = NodeUp | NodeSyncing | NodeDown


class StatusTracker:
    """What was last told, so that only changes are."""

    def __init__(self) -> None:
        self.last: NodeState = NodeDown("it has not been asked yet")
        self._told: NodeState | None = None

    def answered(self, info: NodeInfo) -> NodeState | None:
        """It has answered; the state where that is to be told."""
        if not info.initialblockdownload:
            return self._now(NodeUp(info.blocks))
        headers = max(info.blocks, info.headers or 0)
        progress = info.blocks / headers if info.verificationprogress is None and headers else info.verificationprogress
        return self._now(NodeSyncing(info.blocks, headers, round(min(1.0, progress or 0.0), 4)))

    def failed(self, error: RpcError) -> NodeState | None:
        """It has not; likewise. (An error of its own means that it is starting, such as -28.)"""
        text = error.message.removeprefix("Server busy: ")
        return self._now(NodeDown(text if isinstance(error, UpstreamError) else f"it is not ready: {text}"))

    def _now(self, state: NodeState) -> NodeState | None:
        self.last, told = state, self._told
        same = type(state) is type(told)
        if same and isinstance(state, NodeSyncing) and isinstance(told, NodeSyncing):
            same = abs(state.progress - told.progress) < _STEP
        if same and isinstance(state, NodeDown):
            same = state == told
        if same:
            return None
        self._told = state
        return state
