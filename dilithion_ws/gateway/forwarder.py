"""Passes clients' calls on to the node: the fallback for every method that the gateway does not answer itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .. import NODE_METHODS, CallContext, RpcDialect, RpcTable
from .dialects.base import Dialect
from .dialects.bitcoin_core import CORE
from .dialects.dilithion import DILITHION
from .limited_calls import NOT_NOW, LimitedCall, LimitedCalls
from .node_client import NodeClient
from .node_routes import GatewayView
from .shared_reads import Read, SharedReads
from .template_waiters import METHOD as TEMPLATE_METHOD
from .template_waiters import TemplateWaiters, without_longpollid
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["Forwarder", "WaitingCalls"]


class WaitingCalls(NamedTuple):
    """The calls that wait in the gateway, and not in the node.

    Attributes:
        limited: until a node accepts them, by node.
        templates: for the next block.
    """

    limited: Mapping[NodeClient, LimitedCalls]
    templates: TemplateWaiters


class Forwarder:
    """Answers calls with what the node answers.

    Args:
        nodes: the node, and the one for calls about wallets.
        reads: shares results between clients.
        view: knows the node's state.
        waiting: has the calls that wait here.
    """

    def __init__(
        self, nodes: tuple[NodeClient, NodeClient], reads: SharedReads, view: GatewayView, waiting: WaitingCalls
    ) -> None:
        self._node, self._wallet_node = nodes
        self._waiting = waiting
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
        """Forward one call, unless an equal one was read since the tip has changed, or is being read now.

        A call that would wait in the node waits here, and so does one whose rate the node limits.
        """
        node = self._node_for(context)
        if context.method == TEMPLATE_METHOD:
            params, previous = without_longpollid(params)
            if previous is not None:
                call = LimitedCall(node, context.method, params, context.wallet, context.deadline)
                return self._waiting.templates.wait(previous, context.deadline, lambda: self._read(call, _SOON))
        call = LimitedCall(node, context.method, params, context.wallet, context.deadline)
        limited = self._waiting.limited[node]
        if limited.is_waiting:
            return limited.enter(call)
        try:
            return self._make(call)
        except UpstreamError as error:
            pause = NOT_NOW.get(error.kind)
            if pause is None:
                raise
            return limited.enter(call, max(error.pause, pause.first))

    def _node_for(self, context: CallContext) -> NodeClient:
        """Return the node that a call is for: one about wallets may be for the first one only, which has them."""
        return self._wallet_node if self._is_about_wallets(context) else self._node

    def _is_about_wallets(self, context: CallContext) -> bool:
        if context.wallet is not None:
            return True
        dialect = self._node.dialect
        permission = None if dialect is None else dialect.permissions.get(context.method)
        if permission is None:  # the server's own table has those of Dilithion
            return bool(NODE_METHODS.get(context.method, _WALLET_RIGHTS) & _WALLET_RIGHTS)
        return "WALLET" in permission

    def _make(self, call: LimitedCall) -> Any:
        dialect = call.node.dialect
        if dialect is None or not dialect.only_reads(call.method):
            return self._reads.write(lambda: self._forward(call))
        return self._read(call, self._view.tip_version() if call.method in dialect.tip_reads else None)

    def _read(self, call: LimitedCall, version: Any) -> Any:
        if version is _SOON:  # miners who have waited for the same block get the same template
            version = self._view.tip_version(), int(self._view.clock())
        key, remaining = (call.method, call.params, call.wallet), call.deadline.remaining()
        return self._reads.read(Read(key, lambda: self._forward(call), remaining, version, _size))

    def _forward(self, call: LimitedCall) -> msgspec.Raw:
        try:
            return call.node.call(call.method, call.params, call.deadline.remaining(), call.wallet)
        except UpstreamError as error:
            if error.kind in _SIGNS_OF_TROUBLE:
                self._view.look_at_node()
            raise

    def batch(self, calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        """Forward the calls of a batch, in one request to each node that they are for. Return their outcomes in order."""
        found: dict[int, Any] = {}
        by_node: dict[NodeClient, list[int]] = {}
        for index, (context, _) in enumerate(calls):
            by_node.setdefault(self._node_for(context), []).append(index)
        for node, indexes in by_node.items():
            found.update(zip(indexes, self._batch_at(node, [calls[index] for index in indexes]), strict=True))
        return [found[index] for index in range(len(calls))]

    def _batch_at(self, node: NodeClient, calls: Sequence[tuple[CallContext, bytes]]) -> list[Any]:
        timeout, wallet = calls[0][0].deadline.remaining(), calls[0][0].wallet

        def forward() -> list[Any]:
            plain = [(context.method, _without_waiting(context.method, params)) for context, params in calls]
            return node.batch(plain, timeout, wallet)

        dialect = node.dialect
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


_WALLET_RIGHTS = NODE_METHODS["getbalance"] | NODE_METHODS["sendtoaddress"] | NODE_METHODS["dumpprivkey"]
_SOON = object()
"""Stands for a version that changes with the tip, and each second."""


def _without_waiting(method: str, params: bytes) -> bytes:
    return without_longpollid(params)[0] if method == TEMPLATE_METHOD else params


def _size(result: msgspec.Raw) -> int:
    return memoryview(result).nbytes


def _all_permissions(dialects: Sequence[Dialect]) -> dict[str, str | None]:
    """Return the permissions to use while the dialect is not known: those of all dialects, earlier ones first."""
    found: dict[str, str | None] = {}
    for dialect in reversed(dialects):
        found.update(dialect.permissions)
    return found
