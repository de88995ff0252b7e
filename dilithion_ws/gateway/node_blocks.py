"""Blocks of the node, by height and by hash. No I/O of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .. import RpcError
from .chain_tracker import ChainBlock
from .node_client import Call, NodeClient
from .node_queries import NodeQueries
from .response_parser import Outcome
from .upstream_errors import UpstreamError

__all__ = ["BatchCaller", "BlockHistory", "NodeBlocks"]


class BatchCaller(Protocol):
    """What makes calls to the node. See `NodeClient`."""

    def batch(self, calls: Sequence[Call], timeout: float) -> list[Outcome]: ...


class MempoolAddresses(Protocol):
    """Knows transactions that wait. See `PollerThread`."""

    def mempool_addresses(self) -> dict[str, tuple[str, ...]]: ...


class NodeBlocks:
    """Reads blocks.

    Args:
        node: answers the calls.
        queries: the calls, in the node's dialect.
        timeout: seconds for one answer.
    """

    def __init__(self, node: BatchCaller, queries: NodeQueries, timeout: float) -> None:
        self._node = node
        self._queries = queries
        self._timeout = timeout

    def at(self, heights: Sequence[int], with_txids: bool) -> list[ChainBlock]:
        """Return the blocks of the best chain at these heights, or the first of them if it is shorter.

        Args:
            heights: in ascending order.
            with_txids: whether their transactions are needed; without them many blocks are cheaper.

        Raises:
            UpstreamError: the node could not be reached.
        """
        queries = self._queries
        hashes = self._node.batch([queries.block_hash(height) for height in heights], self._timeout)
        known = [queries.read_hash(answer) for answer in _until_error(hashes)]
        count = 1 if with_txids else len(known)
        answers = self._node.batch([queries.block(hash, count) for hash in known], self._timeout) if known else []
        return [queries.read_block(answer) for answer in _until_error(answers)]

    def block(self, hash: str) -> ChainBlock:
        """Return a block of any branch. Raise RpcError if the node does not know it, or could not be reached."""
        (answer,) = self._node.batch([self._queries.block(hash)], self._timeout)
        return self._queries.read_block(answer)


class BlockHistory:
    """The node's blocks for clients that subscribe from a block. See `WebSocketServer.history`.

    Args:
        node: answers the calls.
        timeout: seconds for one answer.
        mempool: knows the addresses of transactions that wait.
    """

    def __init__(self, node: NodeClient, timeout: float, mempool: MempoolAddresses) -> None:
        self._node = node
        self._timeout = timeout
        self._mempool = mempool

    def read(self, height: int, count: int) -> list[dict[str, Any]]:
        """Return the events of blocks of the best chain from a height on. Raise UpstreamError if the node fails."""
        blocks, _ = self._blocks()
        return [block.event("connected") for block in blocks.at(range(height, height + count), with_txids=False)]

    def find(self, hash: str) -> dict[str, Any] | None:
        """Return the event of a block of any branch, or None if the node does not know it."""
        blocks, queries = self._blocks()
        try:
            return blocks.block(hash).event("connected")
        except RpcError as error:
            if not isinstance(error, UpstreamError) and queries.is_unknown(error):
                return None
            raise

    def transactions(self, hash: str) -> list[dict[str, Any]]:
        """Return the transactions of a block of any branch. See `WebSocketServer.transactions`."""
        _, queries = self._blocks()
        (answer,) = self._node.batch([queries.detailed_block(hash)], self._timeout)
        return queries.read_detailed_block(answer)

    def pending(self) -> list[dict[str, Any]]:
        """Return the transactions in the mempool, likewise, with their addresses if the gateway has seen them come."""
        _, queries = self._blocks()
        (answer,) = self._node.batch([queries.mempool()], self._timeout)
        known = self._mempool.mempool_addresses()
        return [{"txid": txid, "addresses": known.get(txid, ())} for txid in queries.read_mempool(answer)]

    def _blocks(self) -> tuple[NodeBlocks, NodeQueries]:
        queries = NodeQueries(self._node.detect(self._timeout))
        return NodeBlocks(self._node, queries, self._timeout), queries


def _until_error(answers: Sequence[Outcome]) -> list[Outcome]:
    """Return the answers before the first error of the node. Raise if the node could not be reached."""
    found = []
    for answer in answers:
        if isinstance(answer, UpstreamError):
            raise answer
        if isinstance(answer, RpcError):
            break
        found.append(answer)
    return found
