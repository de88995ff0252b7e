"""Passes clients' calls on to the node: the fallback for every method that the gateway does not answer itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .. import CallContext, RpcDialect, RpcTable
from .dialects.base import Dialect
from .dialects.bitcoin_core import CORE
from .dialects.dilithion import DILITHION
from .node_client import NodeClient
from .node_routes import GatewayView
from .shared_reads import Read, SharedReads
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["Forwarder"]


class Forwarder:
    """Answers calls with what the node answers.

    Args:
        node: the node.
        reads: shares results between clients.
        view: knows the node's state.
    """

    def __init__(self, node: NodeClient, reads: SharedReads, view: GatewayView) -> None:
        self._node = node
        self._reads = reads
        self._view = view

    def register(self, rpc: RpcTable, dialect: Dialect | None) -> None:
        """Become the fallback of a table. Call it a second time when the dialect of the node is known."""
        if dialect is None:
            rpc.dialect = RpcDialect.CORE  # until it is known, no client is refused for its way to speak
            rpc.fallback(self.call, _all_permissions([DILITHION, CORE]), batch=self.batch)
        else:
            rpc.dialect = RpcDialect(dialect.name)
            rpc.fallback(
                self.call,
                dialect.permissions,
                batch=self.batch,
                params=dialect.names,
                timeouts=dialect.timeouts,
                only_reads=dialect.only_reads,
            )

    def call(self, context: CallContext, params: bytes) -> Any:
        """Forward one call, unless an equal one was read since the tip has changed, or is being read now."""
        method, wallet, deadline = context.method, context.wallet, context.deadline

        def forward() -> msgspec.Raw:
            try:
                return self._node.call(method, params, deadline.remaining(), wallet)
            except UpstreamError as error:
                if error.kind in _SIGNS_OF_TROUBLE:
                    self._view.look_at_node()
                raise

        dialect = self._node.dialect
        if dialect is None or not dialect.only_reads(method):
            return self._reads.write(forward)
        version = self._view.tip_version() if method in dialect.tip_reads else None
        return self._reads.read(Read((method, params, wallet), forward, deadline.remaining(), version, _size))

    def batch(self, calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        """Forward the calls of a batch in one request, in their order."""
        if len(calls) == 1:
            context, params = calls[0]
            return [self.call(context, params)]
        timeout, wallet = calls[0][0].deadline.remaining(), calls[0][0].wallet

        def forward() -> list[Any]:
            return self._node.batch([(context.method, params) for context, params in calls], timeout, wallet)

        dialect = self._node.dialect
        if dialect is not None and all(dialect.only_reads(context.method) for context, _ in calls):
            return forward()
        found: list[Any] = self._reads.write(forward)
        return found


_SIGNS_OF_TROUBLE = (
    UpstreamErrorKind.DOWN,
    UpstreamErrorKind.LOST,
    UpstreamErrorKind.BROKEN_OFF,
    UpstreamErrorKind.SLOW,
    UpstreamErrorKind.SLOW_READ,
)
"""Errors that show that the node may be down before the next poll does."""


def _size(result: msgspec.Raw) -> int:
    return memoryview(result).nbytes


def _all_permissions(dialects: Sequence[Dialect]) -> dict[str, str | None]:
    """Return the permissions to use while the dialect is not known: those of all dialects, earlier ones first."""
    found: dict[str, str | None] = {}
    for dialect in reversed(dialects):
        found.update(dialect.permissions)
    return found
