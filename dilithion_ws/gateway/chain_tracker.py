"""The best chain as it was published to subscribers, and the steps from it to the node's. No I/O.

The end of the log of `blocks` is what was published: the next step begins there, whatever happened in between, so no
block is missed, and none is published twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["ChainBlock", "ChainTracker", "ChainStep", "GapError", "tip_after"]

_RANGE = 100
"""Blocks per request."""


class ChainBlock(NamedTuple):
    """One block.

    Attributes:
        height, hash, previous, time, tx_count: as events have them.
        txids: its transactions; empty if they were not requested.
        miner: the address that it pays to, if the node says so.
    """

    height: int
    hash: str
    previous: str
    time: int
    tx_count: int
    txids: tuple[str, ...] = ()
    miner: str = ""

    def event(self, kind: str) -> dict[str, Any]:
        """Return the event of the block."""
        return {
            "kind": kind,
            "height": self.height,
            "hash": self.hash,
            "previousblockhash": self.previous,
            "time": self.time,
            "tx_count": self.tx_count,
        }


def tip_after(event: Mapping[str, Any]) -> ChainBlock:
    """Return the tip of the chain after an event of the topic `blocks`."""
    block = ChainBlock(event["height"], event["hash"], event["previousblockhash"], event["time"], event["tx_count"])
    if event["kind"] == "connected":
        return block
    return ChainBlock(block.height - 1, block.previous, "", 0, 0)


class ChainStep(NamedTuple):
    """A block that is connected or disconnected."""

    connected: bool
    block: ChainBlock


class GapError(Exception):
    """The chain cannot be followed block by block."""


Fetch = Callable[[str], ChainBlock]
"""By hash; raises GapError if the node does not know it."""

FetchRange = Callable[[int, int], list[ChainBlock]]
"""Blocks of the best chain from one height to another, both included; fewer if the chain has become shorter."""


class ChainTracker:
    """The published end of the chain.

    Args:
        tip: the last published block.
        max_blocks: blocks that may be published at once, and that are remembered.
    """

    def __init__(self, tip: ChainBlock, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._published: deque[ChainBlock] = deque([tip])  # one height after the other, the tip last

    @property
    def tip(self) -> ChainBlock:
        """The last published block."""
        return self._published[-1]

    def next_steps(self, height: int, hash: str, fetch: Fetch, fetch_range: FetchRange) -> list[ChainStep]:
        """Return steps towards the node's tip, none if it is reached. Publish each and pass it to `record`.

        Raises:
            GapError: it is too far away, or goes back to blocks that are not known any more.
        """
        tip = self.tip
        if hash == tip.hash:
            return []
        if height - tip.height > self._max_blocks:
            missing = height - tip.height
            raise GapError(f"{missing} blocks are missing, past the limit of {self._max_blocks} (rpcgatewaycatchup)")
        if height > tip.height:
            blocks = fetch_range(tip.height + 1, min(height, tip.height + _RANGE))
            if blocks and _follow(tip, blocks):
                return [ChainStep(True, block) for block in blocks]
        return self._reorganise(fetch(hash), fetch)

    def _reorganise(self, block: ChainBlock, fetch: Fetch) -> list[ChainStep]:
        new: list[ChainBlock] = []
        while True:
            published = self._at(block.height, fetch)
            if published is not None and published.hash == block.hash:
                break
            new.append(block)
            if len(new) > self._max_blocks or block.height == 0:
                raise GapError("the node's chain has no block in common with the published one")
            block = fetch(block.previous)
        gone = [
            ChainStep(False, published) for published in reversed(self._published) if published.height > block.height
        ]
        return gone + [ChainStep(True, block) for block in reversed(new)]

    def _at(self, height: int, fetch: Fetch) -> ChainBlock | None:
        """Return the published block at a height, or None above the tip."""
        if height > self.tip.height:
            return None
        while height < self._published[0].height:
            if len(self._published) > self._max_blocks:
                raise GapError(f"a reorganisation goes back past the limit of {self._max_blocks} (rpcgatewaycatchup)")
            lowest = self._published[0]
            if not lowest.previous:
                self._published[0] = lowest = fetch(lowest.hash)
            self._published.appendleft(fetch(lowest.previous))
        return self._published[height - self._published[0].height]

    def record(self, step: ChainStep) -> None:
        """Record that a step was published."""
        block = step.block._replace(txids=())
        if step.connected:
            self._published.append(block)
            if len(self._published) > self._max_blocks:
                self._published.popleft()
            return
        assert self.tip.hash == block.hash
        self._published.pop()
        if not self._published:  # only its height and hash are known
            self._published.append(tip_after(block.event("disconnected")))


def _follow(tip: ChainBlock, blocks: list[ChainBlock]) -> bool:
    """Return whether blocks continue a chain, each the parent of the next."""
    before = tip
    for block in blocks:
        if block.previous != before.hash or block.height != before.height + 1:
            return False
        before = block
    return True
