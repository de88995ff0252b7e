"""The blocks of a host's chain, read back for clients that resume from a block. No thread and no clock.

Wallets store a height and a hash, not a position in a log. So a client may subscribe from a block: `ChainHistory` reads
what leads from there to the tip, in steps, whatever the log has kept. If the block is not on the best chain any more,
the first steps disconnect it and its ancestors down to the fork.

The chain is read in chunks that begin at a multiple of their size and are kept, so that many clients who resume from
about the same height cost the host one read. A kept chunk may be of a branch that was left meanwhile. This is harmless:
the next step finds that its parent is another block, and disconnects again what the client got. The chunk with the tip
is kept until `forget_tip`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..config.limits import Limits, limit_reached
from ..errors import EventError
from ..util.host_code import call_host
from .topic import Topic

__all__ = ["CHUNK_BLOCKS", "ChainHistory", "ChainHooks", "ChainPoint", "HistoryGapError", "HistoryStep"]

CHUNK_BLOCKS = 100
"""Blocks that the host is asked for at a time."""
_STALE_STEPS = 10
"""Blocks of a stale branch that are disconnected at a time, since each of them is asked for by itself."""
_STALE_KEPT = 2000
"""Blocks of stale branches that are kept for the next client."""


class ChainPoint(NamedTuple):
    """A place in a chain: after the block of this height and hash. The height is -1 before the first block."""

    height: int
    hash: str

    def as_since(self) -> dict[str, Any]:
        """Return it as `since` takes it."""
        return {"height": self.height, "hash": self.hash} if self.height >= 0 else {"height": self.height}


class HistoryStep(NamedTuple):
    """A block that is connected or disconnected: the event as JSON, the block, and the place after the event."""

    event: bytes
    block: ChainPoint
    after: ChainPoint

    @property
    def connected(self) -> bool:
        """Whether the block is connected."""
        return self.block == self.after


class ChainHooks(NamedTuple):
    """What the host provides. See `WebSocketServer.history`."""

    read: Callable[[int, int], Sequence[Mapping[str, Any]]]
    find: Callable[[str], Mapping[str, Any] | None] | None


class HistoryGapError(Exception):
    """The chain cannot be followed from a block.

    Attributes:
        reason: `fork` (the block is not known), `ahead` (the chain is shorter), or `limit` (it is too far away).
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Header(msgspec.Struct):
    height: int
    hash: str
    previousblockhash: str


class _Block(NamedTuple):
    """A block: its place, its parent's, and the event that it was connected, as JSON."""

    point: ChainPoint
    parent: ChainPoint
    event: bytes


class ChainHistory:
    """Reads a chain. Not thread-safe: one thread owns it.

    Args:
        hooks: the host's functions.
        topic: has the events of blocks.
        limits: how many blocks a client may be behind, and how many bytes are kept.
    """

    def __init__(self, hooks: ChainHooks, topic: Topic, limits: Limits) -> None:
        self._hooks = hooks
        self._topic = topic
        self._limits = limits
        self._chunks: OrderedDict[int, list[_Block]] = OrderedDict()  # full ones, by the height of the first block
        self._size = 0
        self._stale: OrderedDict[ChainPoint, _Block] = OrderedDict()  # of other branches, as they are disconnected
        self._tip_chunk: tuple[int, list[_Block]] | None = None  # the one that is not full: no block comes after it

    def forget(self) -> None:
        """Forget everything that was read, since blocks were disconnected."""
        self._chunks.clear()
        self._stale.clear()
        self._size = 0
        self.forget_tip()

    def forget_tip(self) -> None:
        """Forget where the chain ended, since there may be new blocks."""
        self._tip_chunk = None

    def start(self, height: int, hash: str | None) -> ChainPoint:
        """Return where a client begins.

        Args:
            height: of the last block that it knows; -1 for none.
            hash: of that block, or None for the one that the chain has there.

        Raises:
            HistoryGapError: it cannot begin there.
        """
        if height < 0:
            hash = None
        most = self._limits.history.chain_blocks
        self._at(max(height, 0))  # most clients are near the tip, so nothing else must be read to know that
        if self._at(height + most + 1) is not None:
            text = f"more than {most} blocks to replay, past the {limit_reached(self._limits, 'chain_blocks')}"
            raise HistoryGapError("limit", text)
        if hash is not None:
            return ChainPoint(height, hash)
        found = self._at(max(height, 0))
        if found is None:
            self.forget_tip()
            found = self._at(max(height, 0))
        if found is None and height < 0:
            return ChainPoint(-1, "0" * 64)  # there is no block yet
        if found is None:
            raise HistoryGapError("ahead", f"the chain has no block at height {height} yet")
        return found.parent if height < 0 else found.point

    def steps_after(self, point: ChainPoint) -> list[HistoryStep]:
        """Return the next steps towards the tip. At the tip there is none.

        Raises:
            HistoryGapError: the chain cannot be followed from there.
        """
        first, offset = _place(point.height + 1)
        blocks = self._chunk(first)[offset:]
        if blocks and (blocks[0].parent == point or point.height < 0):
            return [HistoryStep(block.event, block.point, block.point) for block in blocks]
        return [] if self.is_on_chain(point) else self._back_to_fork(point)

    def check(self, point: ChainPoint) -> None:
        """Raise HistoryGapError if a block is neither on the best chain nor otherwise known."""
        if not self.is_on_chain(point):
            self._find(point)

    def is_on_chain(self, point: ChainPoint) -> bool:
        """Return whether a block is on the best chain."""
        if point.height < 0:
            return True
        here = self._at(point.height)
        if here is not None and here.point == point:
            return True
        if point in self._stale:
            return False
        # What was read may be older than the block. A client must not be sent that a block of the chain is stale.
        self._forget_at(point.height)
        here = self._at(point.height)
        return here is not None and here.point == point

    def _back_to_fork(self, point: ChainPoint) -> list[HistoryStep]:
        """Return the first of the steps that disconnect a stale branch."""
        steps: list[HistoryStep] = []
        while len(steps) < _STALE_STEPS and not self.is_on_chain(point):
            block = self._find(point)
            steps.append(HistoryStep(block.event, block.point, block.parent))
            point = block.parent
        return steps

    def _find(self, point: ChainPoint) -> _Block:
        """Return a block of another branch, as it is disconnected."""
        kept = self._stale.get(point)
        if kept is not None:
            return kept
        event = None if self._hooks.find is None else call_host(self._hooks.find, point.hash)
        block = None if event is None else self._block(event, "disconnected")
        if block is None or block.point != point:
            raise HistoryGapError("fork", f"block {point.hash[:64]} at height {point.height} is not known")
        self._stale[point] = block
        if len(self._stale) > _STALE_KEPT:
            self._stale.popitem(last=False)
        return block

    def parent_of(self, point: ChainPoint) -> ChainPoint:
        """Return the parent of a block of any branch. Raise HistoryGapError if the block is not known."""
        here = self._at(point.height)
        return here.parent if here is not None and here.point == point else self._find(point).parent

    def back(self, point: ChainPoint, count: int) -> ChainPoint:
        """Return the place so many blocks before one of the best chain, or before the first block."""
        height = point.height - count
        found = self._at(max(height, 0))
        if found is None:
            return point
        return found.point if height >= 0 else found.parent

    def tip(self, near: ChainPoint | None) -> ChainPoint:
        """Return the last block of the best chain.

        Args:
            near: a block that is probably close to it, or None.
        """
        low, size = _place(max(0, near.height if near is not None else 0))[0], CHUNK_BLOCKS
        while low and not self._chunk(low):
            low = max(0, low - size)
            size *= 2
        high = low
        while len(self._chunk(high)) == CHUNK_BLOCKS:
            low, high = high, high + size
            size *= 2
        while not self._chunk(high) and high - low > CHUNK_BLOCKS:
            middle = _place((low + high) // 2)[0]
            if self._chunk(middle):
                low = middle
            else:
                high = middle
        blocks = self._chunk(high) or self._chunk(low)
        return blocks[-1].point if blocks else ChainPoint(-1, "0" * 64)

    # Chunks

    def _at(self, height: int) -> _Block | None:
        """Return the block of the chain at a height, or None."""
        first, offset = _place(height)
        blocks = self._chunk(first) if height >= 0 else []
        return blocks[offset] if offset < len(blocks) else None

    def _chunk(self, first: int) -> list[_Block]:
        """Return the blocks from a height on."""
        kept = self._chunks.get(first)
        if kept is not None:
            self._chunks.move_to_end(first)
            return kept
        if self._tip_chunk is not None and self._tip_chunk[0] <= first:
            return self._tip_chunk[1] if self._tip_chunk[0] == first else []
        blocks = [self._block(event, "connected") for event in call_host(self._hooks.read, first, CHUNK_BLOCKS)]
        if len(blocks) > CHUNK_BLOCKS or (blocks and blocks[0].point.height != first):
            raise EventError(
                f"the host gave {len(blocks)} blocks from {blocks[0].point.height}, not those from {first}"
            )
        blocks = _linked(blocks)
        if len(blocks) < CHUNK_BLOCKS:
            self._tip_chunk = first, blocks
        else:
            self._keep(first, blocks)
        return blocks

    def _forget_at(self, height: int) -> None:
        """Forget what was read at a height."""
        self.forget_tip()
        dropped = self._chunks.pop(_place(height)[0], None)
        if dropped is not None:
            self._size -= _size_of(dropped)

    def _keep(self, first: int, blocks: list[_Block]) -> None:
        self._chunks[first] = blocks
        self._size += _size_of(blocks)
        while self._size > self._limits.history.chain_cache and len(self._chunks) > 1:
            _, dropped = self._chunks.popitem(last=False)
            self._size -= _size_of(dropped)

    def _block(self, event: Mapping[str, Any], kind: str) -> _Block:
        """Return a block that the host gave."""
        try:
            header = msgspec.convert(event, _Header)
        except msgspec.ValidationError as error:
            raise EventError(f"the host's block is not an event: {error}") from None
        data = self._topic.encode({**event, "kind": kind}, self._limits)
        point = ChainPoint(header.height, header.hash)
        return _Block(point, ChainPoint(header.height - 1, header.previousblockhash), data)


def _place(height: int) -> tuple[int, int]:
    """Return the height at which the chunk with a block begins, and the place of the block in it."""
    offset = height % CHUNK_BLOCKS
    return height - offset, offset


def _size_of(blocks: list[_Block]) -> int:
    return sum(len(block.event) for block in blocks)


def _linked(blocks: list[_Block]) -> list[_Block]:
    """Return the blocks up to the first one that does not continue the chain: it was reorganised in between."""
    for index in range(1, len(blocks)):
        if blocks[index].parent != blocks[index - 1].point:
            return blocks[:index]
    return blocks
