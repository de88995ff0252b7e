"""The best chain as it has been told to subscribers, and the steps from it to the node's. No I/O.

What has been told is what the log of `blocks` ends with: the next step begins there, whatever happened in between, so
that no block is missed and none is told twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["ChainBlock", "ChainTracker", "ChainStep", "GapError", "tip_after"]

_RANGE = 100
"""Blocks that are asked for at a time."""


class ChainBlock(NamedTuple):
    """One block.

    Attributes:
        height, hash, previous, time, tx_count: as events have them.
        txids: its transactions; empty where they were not asked for.
    """

    height: int
    hash: str
    previous: str
    time: int
    tx_count: int
    txids: tuple[str, ...] = ()

    def event(self, kind: str) -> dict[str, Any]:
        """The event that tells of it."""
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
    """A block that came or went."""

    connected: bool
    block: ChainBlock


class GapError(Exception):
    """There is no way of telling, block by block, how the chain went on."""


Fetch = Callable[[str], ChainBlock]
"""By hash; raises GapError where the node does not know it."""

FetchRange = Callable[[int, int], list[ChainBlock]]
"""Blocks of the best chain from one height to another, both included; fewer where the chain has become shorter."""


class ChainTracker:
    """What has been told.

    Args:
        tip: the last block of it.
        most: blocks that may be told at once, and that are remembered.
    """

    def __init__(self, tip: ChainBlock, most: int) -> None:
        self._most = most
        self._told: deque[ChainBlock] = deque([tip])  # one height after the other, the tip last

    @property
    def tip(self) -> ChainBlock:
        """The last block told."""
        return self._told[-1]

    def next_steps(self, height: int, hash: str, fetch: Fetch, fetch_range: FetchRange) -> list[ChainStep]:
        """Some steps towards the node's tip, none where it is reached; to be told and then given to `take`.

        Raises:
            GapError: it is too far away, or goes back to blocks that nobody knows any more.
        """
        tip = self.tip
        if hash == tip.hash:
            return []
        if height - tip.height > self._most:
            missing = height - tip.height
            raise GapError(f"{missing} blocks are missing, past the limit of {self._most} (rpcgatewaycatchup)")
        if height > tip.height:
            blocks = fetch_range(tip.height + 1, min(height, tip.height + _RANGE))
            if blocks and _follow(tip, blocks):
                return [ChainStep(True, block) for block in blocks]
        return self._reorganise(fetch(hash), fetch)

    def _reorganise(self, block: ChainBlock, fetch: Fetch) -> list[ChainStep]:
        new: list[ChainBlock] = []
        while True:
            told = self._at(block.height, fetch)
            if told is not None and told.hash == block.hash:
                break
            new.append(block)
            if len(new) > self._most or block.height == 0:
                raise GapError("the node's chain has nothing in common with what was told")
            block = fetch(block.previous)
        gone = [ChainStep(False, told) for told in reversed(self._told) if told.height > block.height]
        return gone + [ChainStep(True, block) for block in reversed(new)]

    def _at(self, height: int, fetch: Fetch) -> ChainBlock | None:
        """The block that was told at a height; None above the tip."""
        if height > self.tip.height:
            return None
        while height < self._told[0].height:
            if len(self._told) > self._most:
                raise GapError(f"a reorganisation goes back past the limit of {self._most} (rpcgatewaycatchup)")
            lowest = self._told[0]
            if not lowest.previous:
                self._told[0] = lowest = fetch(lowest.hash)
            self._told.appendleft(fetch(lowest.previous))
        return self._told[height - self._told[0].height]

    def take(self, step: ChainStep) -> None:
        """Notes that a step has been told."""
        block = step.block._replace(txids=())
        if step.connected:
            self._told.append(block)
            if len(self._told) > self._most:
                self._told.popleft()
            return
        assert self.tip.hash == block.hash
        self._told.pop()
        if not self._told:  # no more is known than that it is there
            self._told.append(tip_after(block.event("disconnected")))


def _follow(tip: ChainBlock, blocks: list[ChainBlock]) -> bool:
    """Whether blocks go on from a tip, one after the other."""
    before = tip
    for block in blocks:
        if block.previous != before.hash or block.height != before.height + 1:
            return False
        before = block
    return True
