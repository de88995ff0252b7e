"""Poll the node, and publish events of what has changed. No threads, and no clock."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

import msgspec

from .. import RpcError
from .chain_tracker import ChainBlock, ChainTracker, GapError
from .gateway_config import GatewayConfig
from .node_blocks import BatchCaller, NodeBlocks
from .node_queries import NodeInfo, NodeQueries, PollAnswers
from .node_view import MempoolTransaction, MempoolView, MinedBlock, MiningView, NodeView, PeersView
from .response_parser import Outcome
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["EventPublisher", "NodePoller", "Published"]

logger = logging.getLogger("dilithion_ws.gateway")

_DETAILS = 500
"""Transactions per request."""
_MAX_UNSEEN = 1000
"""Transactions of a block whose addresses are asked for, if they were never in the mempool here."""
_MAX_BLOCKS_WITH_UNSEEN = 10
"""Blocks of one poll for which that is done."""


_FREE_OF = {
    "getrawmempool": "the topic mempool has no events",
    "getpeerinfo": "the topic peers has no events",
    "getmininginfo": "the topic mining has no events",
    "getminingaddress": "blocks of this node are not told",
}
"""Methods without which the rest is followed, and what that costs."""
_NOTHING = {
    "getrawmempool": msgspec.Raw(b"[]"),
    "getpeerinfo": msgspec.Raw(b"[]"),
    "getmininginfo": msgspec.Raw(b"{}"),
    "getminingaddress": msgspec.Raw(b"{}"),
}


class EventPublisher(Protocol):
    """Receives the events. See `SnapshotStore`."""

    def publish(self, topic: str, event: Any) -> None:
        """Publish an event."""

    def start_new_epoch(self, topic: str) -> None:
        """Start a new epoch of a topic, so that its readers learn of a loss."""

    def start_topic(self, topic: str) -> None:
        """Start a topic with the present state of the node, and discard its history."""


class Published(NamedTuple):
    """The state that subscribers have been sent.

    Attributes:
        tip: the last block that was published, or None.
        views: everything else.
    """

    tip: ChainBlock | None
    views: NodeView


class NodePoller:
    """Follows the node, beginning with the state that was published.

    Args:
        node: answers the calls.
        queries: the calls, in the node's dialect.
        publisher: gets the events.
        config: bounds.
        published: what subscribers know already.
    """

    def __init__(
        self,
        node: BatchCaller,
        queries: NodeQueries,
        publisher: EventPublisher,
        config: GatewayConfig,
        published: Published,
    ) -> None:
        self._node = node
        self._queries = queries
        self._blocks = NodeBlocks(node, queries, config.poll_timeout)
        self._publisher = publisher
        self._config = config
        tip = published.tip
        self._chain: ChainTracker | None = None if tip is None else ChainTracker(tip, config.catch_up)
        self.views = published.views
        self._connected: list[ChainBlock] = []  # the blocks of this poll
        self._mined_before: set[str] = set()  # ids of the transactions in those of the previous one
        self._mining_address = ""
        self._forbidden: set[str] = set()  # methods that the account may not call
        self._full = False

    def poll(self) -> NodeInfo:
        """Poll once, and publish what has changed.

        Returns:
            The state of the node.

        Raises:
            RpcError: the node cannot be reached, or is not ready. What was published until then is correct.
        """
        answers = self._ask()
        info = self._queries.info(answers)
        self._mining_address = self._queries.mining_address(answers)
        self._follow_chain(info)
        if "getrawmempool" not in self._forbidden:
            self._follow_mempool(self._queries.txids(answers))
        self._mined_before = {txid for block in self._connected for txid in block.txids}
        self._connected = []
        if "getpeerinfo" not in self._forbidden:
            self._follow("peers", self.views.peers, self._queries.peers(answers))
        self._follow("mining", self.views.mining, self._queries.mining(answers))
        return info

    def _ask(self) -> PollAnswers:
        """Make the calls of one poll that the account may make.

        A node of Core's family refuses a whole batch for one call that is not on the account's list (`-rpcwhitelist`).
        """
        calls = [call for call in self._queries.all() if call[0] not in self._forbidden]
        answers = self._node.batch(calls, self._config.poll_timeout)
        if any(_is_forbidden(answer) for answer in answers):
            answers = [self._node.batch([call], self._config.poll_timeout)[0] for call in calls]
            for (method, _), answer in zip(calls, answers, strict=True):
                if _is_forbidden(answer):
                    self._forbid(method)
        found = dict(zip((method for method, _ in calls), answers, strict=True))
        return PollAnswers(*(found.get(method, _NOTHING.get(method)) for method, _ in self._queries.all()))

    def _forbid(self, method: str) -> None:
        if method in _FREE_OF:
            self._forbidden.add(method)
            logger.warning("the gateway's account may not call %s: %s", method, _FREE_OF[method])

    def _follow(self, topic: str, view: PeersView | MiningView, seen: Any) -> None:
        is_first = view.state() is None
        for event in view.update(seen):
            self._publisher.publish(topic, event)
        if is_first and view.state() is not None:
            self._publisher.start_topic(topic)

    # Blocks

    def _follow_chain(self, info: NodeInfo) -> None:
        if self._chain is None:
            tip = self._blocks.block(info.bestblockhash)
            self._publisher.start_topic("blocks")
            self._start_at(tip)
        while True:
            assert self._chain is not None
            if info.initialblockdownload and info.blocks - self._chain.tip.height > self._config.catch_up:
                return  # published when it has caught up: until then the blocks come faster than clients can read
            try:
                steps = self._chain.next_steps(info.blocks, info.bestblockhash, self._block, self._range)
            except GapError as gap:
                tip = self._blocks.block(info.bestblockhash)  # before a new epoch is started
                logger.error("blocks cannot be published one by one: %s; the topic starts a new epoch", gap)
                self._publisher.start_new_epoch("blocks")
                self._start_at(tip)
                return
            if not steps:
                return
            for step in steps:
                self._publisher.publish("blocks", step.block.event("connected" if step.connected else "disconnected"))
                self._chain.record(step)
                if step.connected:
                    self._connected.append(step.block)
                    self._tell_found(step.block)
                else:
                    self._connected = [block for block in self._connected if block.hash != step.block.hash]

    def _tell_found(self, block: ChainBlock) -> None:
        """Publish that the node has mined a block. Dilithion's VDF miner says nothing of that, nor that it mines."""
        if self._mining_address and block.miner == self._mining_address:
            event = {"kind": "block_found", "height": block.height, "hash": block.hash}
            self._publisher.publish("mining", event)

    def _start_at(self, tip: ChainBlock) -> None:
        """Start at the node's tip, and publish it, so that the log states where it begins."""
        self._chain = ChainTracker(tip, self._config.catch_up)
        self._publisher.publish("blocks", tip.event("connected"))

    def _block(self, hash: str) -> ChainBlock:
        try:
            return self._blocks.block(hash)
        except RpcError as error:
            if self._queries.is_unknown(error):
                raise GapError(f"the node does not know block {hash}") from None
            raise

    def _range(self, first: int, last: int) -> list[ChainBlock]:
        with_txids = self.views.mempool is not None  # they matter only if the mempool is followed
        return self._blocks.at(range(first, last + 1), with_txids)

    # Mempool

    def _follow_mempool(self, txids: list[str]) -> None:
        if len(txids) > self._config.mempool:
            if not self._full:
                self._full, self.views.mempool = True, None
                logger.error(
                    "the mempool has %d transactions, past the limit of %d (rpcgatewaymempool): it is not followed",
                    len(txids),
                    self._config.mempool,
                )
                self._publisher.start_new_epoch("mempool")
            return
        if self.views.mempool is None:
            # In this order: changes from here on are published to those who subscribe from here on.
            self.views.mempool = MempoolView(dict(self._details(txids, with_addresses=False)))
            if self._full:
                self._publisher.start_new_epoch("mempool")
            else:
                self._publisher.start_topic("mempool")
            self._full = False
            return
        mempool, mined = self.views.mempool, set(self._mined_before)
        by_blocks: set[str] = set()  # the outputs that transactions of these blocks spend
        for block in self._connected:
            mined.update(block.txids)
            details = self._mined_block(block, mempool)
            by_blocks.update(output for one in details.details.values() for output in one.spends)
            for event in mempool.mine(details):
                self._publisher.publish("mempool", event)
        # The mempool was read before the chain, so it may have transactions that are mined by now.
        new = self._details([txid for txid in mempool.new(txids) if txid not in mined], with_addresses=True)
        gone = mempool.gone(set(txids))
        if gone:  # otherwise each is published as soon as it is read
            new = list(new)
            by_new = {output for _, one in new for output in one.spends}
            for txid in gone:
                reason = "replaced" if mempool.spends_any(txid, by_new) else "unknown"
                reason = "conflict" if mempool.spends_any(txid, by_blocks) else reason
                self._publisher.publish("mempool", mempool.remove(txid, reason))
        for txid, transaction in new:
            self._publisher.publish("mempool", mempool.add(txid, transaction))

    def _mined_block(self, block: ChainBlock, mempool: MempoolView) -> MinedBlock:
        """Return a block with what the node knows of its transactions that were never told: mined between two polls."""
        txids = block.txids[1:]  # the first one is the coinbase
        unseen = mempool.new(txids)
        details: dict[str, MempoolTransaction] = {}
        if 0 < len(unseen) <= _MAX_UNSEEN and len(self._connected) <= _MAX_BLOCKS_WITH_UNSEEN:
            answers = self._node.batch(self._queries.mined(block, unseen), self._config.poll_timeout)
            details = self._queries.read_mined(unseen, answers)
        return MinedBlock(block.height, block.hash, txids, details)

    def _details(self, txids: list[str], with_addresses: bool) -> Iterable[tuple[str, MempoolTransaction]]:
        """Yield what the node knows of transactions, except those that have left the mempool meanwhile."""
        for at in range(0, len(txids), _DETAILS):
            part = txids[at : at + _DETAILS]
            calls = [self._queries.transaction(txid, with_addresses) for txid in part]
            found = self._node.batch(list(chain.from_iterable(calls)), self._config.poll_timeout)
            if _is_forbidden(found[0]):
                self._forbid("getrawmempool")
                return
            answers = iter(found)
            for txid, own in zip(part, calls, strict=True):
                transaction = self._queries.read_transaction(list(islice(answers, len(own))))
                if transaction is not None:
                    yield txid, transaction


def _is_forbidden(answer: Outcome) -> bool:
    return isinstance(answer, UpstreamError) and answer.kind is UpstreamErrorKind.FORBIDDEN
