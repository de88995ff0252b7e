"""Reads what the node's help says of its methods, once for each version of the node, so that `rpc.discover` is true."""

from __future__ import annotations

import json
import logging

from .. import RpcError, RpcTable
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import any_thread, owner_only
from .dialects.bitcoin_core import CORE
from .dialects.core_help import method_names, parse_help
from .node_client import NodeClient

__all__ = ["HelpReader"]

logger = logging.getLogger("dilithion_ws.gateway")

_NOT_YET = Pause(0.5, 0.5)
_LOOK_AGAIN = Pause(60.0, 60.0)
"""How often the node is asked for its version: it may have been replaced by a newer one."""


class HelpReader:
    """Describes the methods of a table by the help of the node. Only nodes of the Bitcoin Core family have such a help.

    Args:
        node: the node. When its dialect is known, the table has a fallback for it.
        rpc: the table whose fallback forwards to it.
        timeout: seconds for one answer.
    """

    def __init__(self, node: NodeClient, rpc: RpcTable, timeout: float) -> None:
        self._node = node
        self._rpc = rpc
        self._timeout = timeout
        self._version: str | None = None
        self._thread = RepeatingThread("dilithion-ws-gateway-help", self.step, logger, 60.0)

    @any_thread
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @any_thread
    def stop(self, timeout: float) -> None:
        """Stop the thread."""
        self._thread.stop(timeout)

    @owner_only
    def step(self, is_hinted: bool) -> Pause | None:
        """Read the help if the node is of another version than before. Return the pause, or None if there is no help."""
        if self._node.dialect is None:
            return _NOT_YET
        if self._node.dialect is not CORE:
            return None
        try:
            version = self._call("getnetworkinfo", "subversion")
            if version != self._version:
                self._describe()
                self._version = version
        except (RpcError, ValueError) as error:
            logger.debug("the node's help can't be read: %s", error)
        return _LOOK_AGAIN

    def _call(self, method: str, member: str = "") -> str:
        result = json.loads(bytes(self._node.call(method, b"[]", self._timeout)))
        return str(result[member] if member else result)

    def _describe(self) -> None:
        names = method_names(self._call("help"))
        answers = self._node.batch([("help", json.dumps([name]).encode()) for name in names], self._timeout)
        pages = {
            name: parse_help(json.loads(bytes(answer)))
            for name, answer in zip(names, answers, strict=True)
            if not isinstance(answer, RpcError)
        }
        self._rpc.describe(
            {name: page.signature for name, page in pages.items()}, {name: page.text for name, page in pages.items()}
        )
        logger.info("the node's help describes %d methods", len(pages))
