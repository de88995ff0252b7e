"""Learn of new blocks from a call that waits in the node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent import futures

from .. import JsonRpcCode, RpcError
from ..util.clock import Clock
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import any_thread, owner_only
from .node_client import NodeClient
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["LongPoll"]

logger = logging.getLogger("dilithion_ws.gateway")

_WAIT_MS = 10_000
_GRACE = 10.0
"""Seconds beyond that after which the node has forgotten the call."""
_TRY_MS = 1000
"""Milliseconds of the first wait, by which the node is tried."""
_RETRY_SECONDS = 1.0
_MIN_INTERVAL = 0.05
"""Seconds from one waiting call to the next, at least."""


class LongPoll:
    """Waits in the node for the next block. It is only for nodes that serve other calls meanwhile.

    Args:
        node: the node.
        is_wanted: whether to wait now.
        hint: called when there is a block.
        clock: seconds that never go backwards.
    """

    def __init__(self, node: NodeClient, is_wanted: Callable[[], bool], hint: Callable[[], None], clock: Clock) -> None:
        self._node = node
        self._is_wanted = is_wanted
        self._hint = hint
        self._clock = clock
        self._is_tried = False
        self._tries = futures.ThreadPoolExecutor(1, thread_name_prefix="dilithion-ws-gateway-try")
        self._thread = RepeatingThread(
            "dilithion-ws-gateway-longpoll", lambda is_woken: self.step(), logger, _RETRY_SECONDS
        )

    @any_thread
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @any_thread
    def stop(self, timeout: float) -> None:
        """Stop waiting. A call that the node is executing is not cancelled, and not waited for."""
        self._thread.stop(0)
        self._tries.shutdown(wait=False, cancel_futures=True)

    @owner_only
    def step(self) -> Pause | None:
        """Wait in the node for the next block, once.

        Returns:
            The pause until the next step, or None if the node cannot wait.
        """
        dialect = self._node.dialect
        if dialect is not None and not dialect.can_wait:
            return None
        if dialect is None or not self._is_wanted():
            return Pause(_RETRY_SECONDS, _RETRY_SECONDS)
        started = self._clock()
        if not self._is_tried and not self._try_node():
            return None
        try:
            self._node.call("waitfornewblock", b"[%d]" % _WAIT_MS, _WAIT_MS / 1000 + _GRACE)
        except RpcError as error:
            if error.code == JsonRpcCode.METHOD_NOT_FOUND:
                logger.info("the node can't wait for blocks: it is polled")
                return None
            return Pause(_RETRY_SECONDS, _RETRY_SECONDS)
        self._is_tried = True
        self._hint()
        rest = max(0.0, _MIN_INTERVAL - (self._clock() - started))  # in case it does not wait after all
        return Pause(rest, rest)

    def _try_node(self) -> bool:
        """Return whether the node answers another call while it waits for a second.

        One with a single thread (`-rpcthreads=1`) does not: each call of a client would take as long as the wait.
        """
        wait = self._tries.submit(self._node.call, "waitfornewblock", b"[%d]" % _TRY_MS, _TRY_MS / 1000 + _GRACE)
        if futures.wait([wait], _TRY_MS / 4000).done:  # by then it has reached the node, before the other call
            return True
        started = self._clock()
        try:
            self._node.call("getblockcount", b"", _TRY_MS / 1000 + _GRACE)
            is_quick = self._clock() - started < _TRY_MS / 2000
        except UpstreamError as error:
            is_quick = error.kind is not UpstreamErrorKind.BUSY  # other errors say nothing about its threads
        except RpcError:
            is_quick = True
        if not is_quick:
            logger.warning("the node answers nothing while a call waits in it (-rpcthreads): it is polled instead")
        return is_quick
