"""Passes clients' calls on to the node: the fallback for every method that the gateway does not answer itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import CallContext, RpcDialect, RpcTable
from .dialects.base import Dialect
from .dialects.bitcoin_core import CORE
from .dialects.dilithion import DILITHION
from .node_client import NodeClient

__all__ = ["Forwarder"]


class Forwarder:
    """Answers calls with what the node answers.

    Args:
        node: the node.
    """

    def __init__(self, node: NodeClient) -> None:
        self._node = node

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
        """Forward one call."""
        return self._node.call(context.method, params, context.deadline.remaining(), context.wallet)

    def batch(self, calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        """Forward the calls of a batch in one request, in their order."""
        if len(calls) == 1:
            context, params = calls[0]
            return [self.call(context, params)]
        timeout = calls[0][0].deadline.remaining()
        return self._node.batch([(context.method, params) for context, params in calls], timeout, calls[0][0].wallet)


def _all_permissions(dialects: Sequence[Dialect]) -> dict[str, str | None]:
    """Return the permissions to use while the dialect is not known: those of all dialects, earlier ones first."""
    found: dict[str, str | None] = {}
    for dialect in reversed(dialects):
        found.update(dialect.permissions)
    return found
