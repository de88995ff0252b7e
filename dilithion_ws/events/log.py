"""The log of one topic: its last entries, numbered without a hole, under an epoch.

An epoch names one numbering. Whoever knows an epoch and a seq knows a place that means the same for ever, or is
recognisably of a log that is no more.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ..util.clock import Clock

__all__ = ["LogEntry", "EventsGoneError", "EventLog", "Position", "Retention"]


class Retention(NamedTuple):
    """How much of a topic is kept; what goes past any of the three bounds is dropped, oldest first.

    Attributes:
        entries: events.
        seconds: age.
        size: bytes of the events as JSON.
        least: events that are kept whatever their age.
    """

    entries: int
    seconds: float
    size: int
    least: int = 0


class Position(NamedTuple):
    """A place in a log: behind the entry `seq`."""

    epoch: str
    seq: int


class LogEntry:
    """One event.

    Attributes:
        seq: its number, from 1.
        data: the event as JSON.
        at: when it came, in seconds of the log's clock.
    """

    __slots__ = ("at", "data", "seq")

    def __init__(self, seq: int, data: bytes, at: float) -> None:
        self.seq = seq
        self.data = data
        self.at = at

    def __repr__(self) -> str:
        return f"<Entry {self.seq}, {len(self.data)} bytes>"


class EventsGoneError(Exception):
    """A place can't be read on from.

    Attributes:
        reason: `epoch` (of another log), `expired` (what follows has been dropped) or `ahead` (it is not there yet).
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EventLog:
    """Thread-safe. Entries are appended at the head and dropped at the tail, never changed.

    Args:
        retention: how much is kept.
        clock: seconds that never go backwards.
        epoch: the name of this numbering.
    """

    def __init__(self, retention: Retention, clock: Clock, epoch: str) -> None:
        self.retention = retention
        self._clock = clock
        self._growing = threading.Lock()  # guards all below
        self._epoch = epoch
        self._entries: deque[LogEntry] = deque()
        self._head = 0
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes in the log."""
        return self._size

    @property
    def position(self) -> Position:
        """Behind the newest entry."""
        with self._growing:
            return Position(self._epoch, self._head)

    @property
    def first(self) -> int:
        """The number of the oldest entry kept; one past the head where there is none."""
        with self._growing:
            self._trim()
            return self._first

    def append(self, data: bytes, seq: int | None = None) -> int:
        """Adds an entry and drops what is past the bounds; returns its number.

        Args:
            data: the event as JSON.
            seq: its number, where a store has numbered it already; must be past the head. A hole before it makes all
                that came earlier unreadable, since nobody may read across it without being told.
        """
        with self._growing:
            if seq is None:
                seq = self._head + 1
            elif seq <= self._head:
                raise ValueError(f"entry {seq} comes behind {self._head}")
            elif seq != self._head + 1:
                self._entries.clear()
                self._size = 0
            self._entries.append(LogEntry(seq, data, self._clock()))
            self._head = seq
            self._size += len(data)
            self._trim()
            return seq

    def read(self, position: Position, most: int) -> tuple[list[LogEntry], bool]:
        """Entries behind a place, in order.

        Args:
            position: the place.
            most: bytes at most; one entry comes in any case.

        Returns:
            The entries, and whether there are more.

        Raises:
            EventsGoneError: reading can't go on from there.
        """
        epoch, after = position
        with self._growing:
            self._check(epoch, after)
            first, entries = self._first, self._entries
            found: list[LogEntry] = []
            size = 0
            for at in range(after + 1 - first, len(entries)):
                entry = entries[at]
                size += len(entry.data)
                if found and size > most:
                    return found, True
                found.append(entry)
            return found, False

    def check(self, position: Position) -> None:
        """Raises EventsGoneError where reading can't go on from a place."""
        with self._growing:
            self._trim()
            self._check(*position)

    def newest(self) -> LogEntry | None:
        """The entry at the head, None where there is none."""
        with self._growing:
            return self._entries[-1] if self._entries else None

    def restart(self, epoch: str, head: int = 0) -> None:
        """Begins another numbering: whoever reads on in the old one is told."""
        with self._growing:
            self._entries.clear()
            self._epoch = epoch
            self._head = head
            self._size = 0

    def load(self, epoch: str, head: int, entries: Iterable[tuple[int, bytes, float]]) -> None:
        """Takes over what a store has kept.

        Args:
            epoch, head: of the log that was kept.
            entries: number, event as JSON and age in seconds of each, in order and up to the head.
        """
        with self._growing:
            now = self._clock()
            self._entries = deque(LogEntry(seq, data, now - age) for seq, data, age in entries)
            if self._entries and self._entries[-1].seq != head:
                self._entries.clear()
            self._epoch = epoch
            self._head = head
            self._size = sum(len(entry.data) for entry in self._entries)
            self._trim()

    @property
    def _first(self) -> int:
        return self._head + 1 - len(self._entries)

    def _check(self, epoch: str, after: int) -> None:
        assert self._growing.locked()
        if epoch != self._epoch:
            raise EventsGoneError("epoch")
        if after > self._head:
            raise EventsGoneError("ahead")
        if after < self._first - 1:
            raise EventsGoneError("expired")

    def _trim(self) -> None:
        """Drops what is past the bounds; requires holding the lock."""
        assert self._growing.locked()
        entries, retention = self._entries, self.retention
        oldest = self._clock() - retention.seconds
        while entries and (
            len(entries) > retention.entries
            or self._size > retention.size
            or (entries[0].at < oldest and len(entries) > retention.least)
        ):
            self._size -= len(entries.popleft().data)
