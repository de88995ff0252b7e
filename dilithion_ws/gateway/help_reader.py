"""Reads what the node's help says of its methods, so that `rpc.discover` is true.

It is read when a client asks for a description, as any other call of a client. Until then the node is not
asked. It is kept for as long as the node is of the same version.
"""

from __future__ import annotations

import json
import logging
import threading

import msgspec

from .. import RpcError, RpcTable
from ..util.clock import Clock
from ..util.thread_contracts import any_thread
from .dialects.bitcoin_core import CORE
from .dialects.core_help import MethodHelp, method_names, parse_help
from .node_client import NodeClient

__all__ = ["HelpReader"]

logger = logging.getLogger("dilithion_ws.gateway")

_LOOK_AGAIN = 60.0
"""Seconds after which the node is asked for its version again: it may have been replaced by a newer one."""
_TRY_AGAIN = 5.0
_decode_text = msgspec.json.Decoder(str).decode


class HelpReader:
    """Describes the methods of a table by the help of the node. Only nodes of the Bitcoin Core family have such a help.

    Args:
        node: the node. When its dialect is known, the table has a fallback for it.
        rpc: the table whose fallback forwards to it.
        timeout: seconds for one answer.
        clock: seconds that never go backwards.
    """

    def __init__(self, node: NodeClient, rpc: RpcTable, timeout: float, clock: Clock) -> None:
        self._node = node
        self._rpc = rpc
        self._timeout = timeout
        self._clock = clock
        self._lock = threading.Lock()  # held while the help is read, and guards the two below
        self._version: str | None = None
        self._look_at = 0.0

    @any_thread
    def refresh(self) -> None:
        """Read the help if the node is of another version than before. Block for a few answers of the node."""
        if self._node.dialect is not CORE:
            return
        with self._lock:
            if self._clock() < self._look_at:
                return
            self._look_at = self._clock() + _TRY_AGAIN
            try:
                version = self._call("getnetworkinfo", "subversion")
                if version != self._version:
                    self._describe()
                    self._version = version
                self._look_at = self._clock() + _LOOK_AGAIN
            except (RpcError, ValueError, LookupError, TypeError) as error:
                logger.warning("the node's help can't be read, so its methods are described without it: %s", error)

    def _call(self, method: str, member: str = "") -> str:
        result = json.loads(bytes(self._node.call(method, b"[]", self._timeout)))
        return str(result[member] if member else result)

    def _describe(self) -> None:
        names = method_names(self._call("help"))
        answers = self._node.batch([("help", json.dumps([name]).encode()) for name in names], self._timeout)
        pages: dict[str, MethodHelp] = {}
        for name, answer in zip(names, answers, strict=True):
            try:
                if not isinstance(answer, RpcError):
                    pages[name] = parse_help(_decode_text(bytes(answer)))
            except ValueError as error:
                logger.debug("the node's help for %s can't be read: %s", name, error)
        self._rpc.describe(
            {name: page.signature for name, page in pages.items()}, {name: page.text for name, page in pages.items()}
        )
        logger.info("the node's help describes %d methods", len(pages))
