"""Learn from a call that waits in the node that there is a new block."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .. import JsonRpcCode, RpcError
from .node_client import NodeClient

__all__ = ["LongPoll"]

logger = logging.getLogger("dilithion_ws.gateway")

_WAIT_MS = 10_000
_GRACE = 10.0
"""Seconds beyond that after which the node has forgotten the call."""
_RETRY_SECONDS = 1.0
_MIN_INTERVAL = 0.05
"""Seconds from one waiting call to the next, at least."""


class LongPoll:
    """Waits in the node for the next block; only for nodes that serve other calls meanwhile.

    Args:
        node: the node.
        is_wanted: whether to wait now.
        hint: called when there is a block.
    """

    def __init__(self, node: NodeClient, is_wanted: Callable[[], bool], hint: Callable[[], None]) -> None:
        self._node = node
        self._is_wanted = is_wanted
        self._hint = hint
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-longpoll", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop waiting. A call that the node is executing is not cancelled."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            dialect = self._node.dialect
            if dialect is not None and not dialect.can_wait:
                return
            if dialect is None or not self._is_wanted():
                self._stopped.wait(_RETRY_SECONDS)
                continue
            started = time.monotonic()
            try:
                self._node.call("waitfornewblock", b"[%d]" % _WAIT_MS, _WAIT_MS / 1000 + _GRACE)
                self._hint()
                self._stopped.wait(_MIN_INTERVAL - (time.monotonic() - started))  # in case it does not wait after all
            except RpcError as error:
                if error.code == JsonRpcCode.METHOD_NOT_FOUND:
                    logger.info("the node can't wait for blocks: it is polled")
                    return
                self._stopped.wait(_RETRY_SECONDS)
            except Exception:
                logger.exception("waiting for the next block failed; going on")
                self._stopped.wait(_RETRY_SECONDS)
