"""Which block was the tip at each position of the log of `blocks`. No thread and no clock.

A client that replays the chain joins the log at the newest position at which the tip is the block that it has reached.
Its view is then what the log says there, so nothing is repeated and nothing is left out. The log states the tip at each
of its positions: after an entry by what was connected or disconnected, and before the first one likewise.
"""

from __future__ import annotations

from collections import deque

import msgspec

from ..util.position import Position
from .chain_history import ChainPoint
from .log import EventLog, EventsGoneError, LogEntry
from .stream import CHUNK_BYTES

__all__ = ["ChainIndex"]


class _Change(msgspec.Struct):
    kind: str
    height: int
    hash: str
    previousblockhash: str

    @property
    def block(self) -> ChainPoint:
        return ChainPoint(self.height, self.hash)

    @property
    def parent(self) -> ChainPoint:
        return ChainPoint(self.height - 1, self.previousblockhash)


_decode = msgspec.json.Decoder(_Change).decode


class ChainIndex:
    """Finds positions by tip. Not thread-safe: one thread owns it.

    Args:
        log: of the topic.

    Attributes:
        disconnected: blocks that were disconnected, in all that was read.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._read_to = Position("", 0)
        self._tips: deque[tuple[int, ChainPoint]] = deque()  # by position
        self._found: dict[ChainPoint, int] = {}  # the newest position of each
        self.disconnected = 0

    def update(self) -> None:
        """Read what was appended since, and forget what the log has dropped."""
        more = True
        while more:
            try:
                entries, more = self._log.read(self._read_to, CHUNK_BYTES)
            except EventsGoneError:
                self._start_again()
                continue
            for entry in entries:
                try:
                    self._add(entry)
                except msgspec.MsgspecError:  # a topic of the host without a schema: what comes next is not known
                    self._tips.clear()
                    self._found.clear()
                    self._read_to = Position(self._read_to.epoch, entry.seq)
        oldest = self._log.first - 1
        while self._tips and self._tips[0][0] < oldest:
            seq, point = self._tips.popleft()
            if self._found.get(point) == seq:
                del self._found[point]

    @property
    def tip(self) -> ChainPoint | None:
        """The tip at that position, or None if the log is empty."""
        return self._tips[-1][1] if self._tips else None

    @property
    def position(self) -> Position:
        """The position up to which the log was read."""
        return self._read_to

    def position_of(self, point: ChainPoint) -> Position | None:
        """Return the newest position at which a block is the tip, or None."""
        seq = self._found.get(point)
        return None if seq is None else Position(self._read_to.epoch, seq)

    def _start_again(self) -> None:
        """Begin with the oldest entry of the log. What was read before was dropped, or is of another epoch."""
        self._tips.clear()
        self._found.clear()
        self._read_to = Position(self._log.position.epoch, self._log.first - 1)
        self.disconnected += 1  # possibly, in what was missed

    def _add(self, entry: LogEntry) -> None:
        change = _decode(entry.data)
        before, after = (change.parent, change.block)
        if change.kind != "connected":
            before, after = after, before
            self.disconnected += 1
        if not self._tips:
            self._set(entry.seq - 1, before)
        self._set(entry.seq, after)
        self._read_to = Position(self._read_to.epoch, entry.seq)

    def _set(self, seq: int, point: ChainPoint) -> None:
        self._tips.append((seq, point))
        self._found[point] = seq
