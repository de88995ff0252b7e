"""Several nodes of one chain: one of them is used, and another one takes its place when it fails.

Which one is used is the same for calls of clients and for polling, so that events and answers are of one node. The
gateway stays with the node that it uses until that one fails. Another one takes over only if it has the block that was
published last: one that is behind, or on another chain, would make blocks seem to be disconnected.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from .. import RpcError
from ..util.thread_contracts import any_thread, owner_only
from .block_waiters import Tip
from .dialects.base import Dialect
from .http_upstream import HttpUpstream
from .node_client import CircuitBreaker, NodeClient
from .node_queries import NodeQueries
from .response_parser import UpstreamReply

__all__ = ["ActiveNode", "Failover", "FailoverUpstream"]

logger = logging.getLogger("dilithion_ws.gateway")


class ActiveNode:
    """Which node is used. Thread-safe.

    Args:
        urls: of all nodes, the preferred one first.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._lock = threading.Lock()  # guards the choice
        self.urls = tuple(urls)
        self.index = 0

    @any_thread
    def use(self, index: int) -> None:
        """Use another node from now on."""
        with self._lock:
            self.index = index


class FailoverUpstream:
    """Sends requests to the node that is used. Implements `HttpPoster` and `HttpRequester`.

    Args:
        upstreams: one for each node.
        active: which one is used.
    """

    def __init__(self, upstreams: Sequence[HttpUpstream], active: ActiveNode) -> None:
        self.upstreams = upstreams
        self._active = active

    @any_thread
    def post(self, body: bytes, headers: Mapping[str, str], timeout: float, path: str = "") -> UpstreamReply:
        """See `HttpUpstream.post`."""
        return self.upstreams[self._active.index].post(body, headers, timeout, path)

    @any_thread
    def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> UpstreamReply:
        """See `HttpUpstream.request`."""
        return self.upstreams[self._active.index].request(method, path, body, headers, timeout)

    @any_thread
    def close(self) -> None:
        """See `HttpUpstream.close`."""
        for upstream in self.upstreams:
            upstream.close()


class Failover:
    """Finds another node when the one that is used has failed.

    Args:
        upstream: sends requests to all nodes.
        active: which one is used.
        breaker: the pauses of calls, which end with the node that they were for.
        timeout: seconds for the answers of each candidate.
    """

    def __init__(self, upstream: FailoverUpstream, active: ActiveNode, breaker: CircuitBreaker, timeout: float) -> None:
        self._upstream = upstream
        self._active = active
        self._breaker = breaker
        self._timeout = timeout
        self._refused: dict[int, str] = {}

    @owner_only
    def switch(self, tip: Tip | None, dialect: Dialect | None) -> bool:
        """Use another node, if one has what was published.

        Args:
            tip: the last published block, or None if there is none yet.
            dialect: of the nodes, or None if it is not known yet.
        """
        count, used = len(self._upstream.upstreams), self._active.index
        for index in sorted(range(count), key=lambda index: (index - used) % count)[1:]:
            reason = self._reason_against(index, tip, dialect)
            if not reason:
                logger.warning("using the node %s in place of %s", self._active.urls[index], self._active.urls[used])
                self._active.use(index)
                self._breaker.reset()
                self._refused.clear()
                return True
            if self._refused.get(index) != reason:
                logger.warning("the node %s can't take over: %s", self._active.urls[index], reason)
                self._refused[index] = reason
        return False

    def _reason_against(self, index: int, tip: Tip | None, dialect: Dialect | None) -> str:
        """Return why a node cannot take over, or nothing."""
        breaker = CircuitBreaker(lambda: 0.0)
        client = NodeClient(self._upstream.upstreams[index], dialect, lambda: 0.0, breaker)
        try:
            found = client.detect(self._timeout)
            if dialect is not None and found is not dialect:
                return f"it speaks {found.name}"
            height = int(bytes(client.call("getblockcount", b"", self._timeout)))
            if tip is None:
                return ""
            if height < tip.height:
                return f"it is at height {height}, and {tip.height} was published"
            queries = NodeQueries(found)
            (same,) = client.batch([queries.block_hash(tip.height)], self._timeout)
            if queries.read_hash(same) == tip.hash:
                return ""
            (stale,) = client.batch([queries.block(tip.hash)], self._timeout)
            return "it does not know the last published block" if isinstance(stale, RpcError) else ""
        except RpcError as error:
            return error.message.removeprefix("Server busy: ")
