"""The log of one topic: its latest entries, numbered without gaps, under an epoch.

An epoch names one numbering. A position, that is an epoch and a seq, always means the same entry, or is recognised as
belonging to a log that no longer exists. Two rules follow, and everything that appends must keep them:

1. Within an epoch a seq is given once, and to the events in the order in which clients receive them.
2. Within an epoch no event is dropped between `publish` and the log. Only the log itself drops entries, oldest first.

So a new epoch starts whenever one of the rules could be broken:

- A log in memory begins with a new process.
- A store cannot tell which numbers were given: its file is damaged or gone, the machine crashed before the file was
  closed, or Redis has a lower head than a server has seen.
- Events are lost on the way to the store: its backlog is full, or the file can no longer be written and events continue
  in memory.
- The host does not know what happened while it was away, and calls `EventHub.start_new_epoch`.

A reader with a position of the old epoch gets `EventsGoneError`, so a loss is always reported and never silent.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..util.clock import Clock
from ..util.position import Position
from ..util.thread_contracts import any_thread, requires

__all__ = ["EventLog", "EventsGoneError", "LogEntry", "Retention", "StoredEntry"]


class Retention(NamedTuple):
    """How much of a topic is kept. Entries beyond any of the three bounds are dropped, oldest first.

    Attributes:
        entries: number of events.
        seconds: age.
        size: bytes of the events as JSON.
        min_entries: events that are kept whatever their age.
        lag: seconds for which an event is kept in a burst, until the log has twice as many events or bytes as it should:
            a reader that is up to as far behind misses nothing.
    """

    entries: int
    seconds: float
    size: int
    min_entries: int = 0
    lag: float = 0.0


class LogEntry:
    """One event.

    Attributes:
        seq: its number, from 1.
        data: the event as JSON.
        at: when it was appended, in seconds of the log's clock.
    """

    __slots__ = ("at", "data", "seq")

    def __init__(self, seq: int, data: bytes, at: float) -> None:
        self.seq = seq
        self.data = data
        self.at = at

    def __repr__(self) -> str:
        return f"<LogEntry {self.seq}, {len(self.data)} bytes>"


class StoredEntry(NamedTuple):
    """An event that a store has kept: its number, its JSON, and its age in seconds."""

    seq: int
    data: bytes
    age: float


class EventsGoneError(Exception):
    """The log cannot be read from a position.

    Attributes:
        reason: `epoch` (of another log), `expired` (the next entry was dropped) or `ahead` (beyond the head).
        next: the position of the present log that follows without a loss, or None.
    """

    def __init__(self, reason: str, next: Position | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.next = next

    @property
    def members(self) -> dict[str, Any]:
        """What clients get of it."""
        return {"reason": self.reason, **({} if self.next is None else {"next": self.next._asdict()})}


class EventLog:
    """Entries are appended at the head and dropped at the tail, and never changed. Thread-safe.

    Args:
        retention: how much is kept.
        clock: seconds that never go backwards.
        epoch: the name of its numbering.
    """

    def __init__(self, retention: Retention, clock: Clock, epoch: str) -> None:
        self.retention = retention
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._epoch = epoch
        self._entries: deque[LogEntry] = deque()
        self._head = 0
        self._size = 0
        self._follows: Position | None = None  # where the log before this one ended, if nothing was lost in between

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def position(self) -> Position:
        """The position after the newest entry."""
        with self._lock:
            return Position(self._epoch, self._head)

    @property
    def first(self) -> int:
        """The number of the oldest entry, or the head plus one if there is none."""
        with self._lock:
            self._trim()
            return self._first

    @any_thread
    def append(self, data: bytes, seq: int | None = None) -> int:
        """Append an entry, and drop entries beyond the bounds. Return its number.

        Args:
            data: the event as JSON.
            seq: its number, if a store has numbered it already; must be greater than the head. If it leaves a gap, all
                earlier entries are dropped, so that no reader crosses the gap unnoticed.

        Raises:
            ValueError: the number is not greater than the head.
        """
        with self._lock:
            if seq is None:
                seq = self._head + 1
            elif seq <= self._head:
                raise ValueError(f"entry {seq} is not after the head {self._head}")
            elif seq != self._head + 1:
                self._entries.clear()
                self._size = 0
            self._entries.append(LogEntry(seq, data, self._clock()))
            self._head = seq
            self._size += len(data)
            self._trim()
            return seq

    @any_thread
    def read(self, position: Position, max_bytes: int) -> tuple[list[LogEntry], bool]:
        """Return entries after a position, in order, and whether there are more.

        Args:
            position: where to begin.
            max_bytes: bytes of events to return; a first entry is returned whatever its size.

        Raises:
            EventsGoneError: the log cannot be read from there.
        """
        epoch, after = position
        with self._lock:
            self._check(epoch, after)
            first, entries = self._first, self._entries
            found: list[LogEntry] = []
            size = 0
            for index in range(after + 1 - first, len(entries)):
                entry = entries[index]
                size += len(entry.data)
                if found and size > max_bytes:
                    return found, True
                found.append(entry)
            return found, False

    @any_thread
    def read_back(self, position: Position, max_bytes: int) -> list[LogEntry]:
        """Return the last entries up to a position and including it, in order.

        Args:
            position: where to end.
            max_bytes: bytes of events to return; the last entry is returned whatever its size.

        Raises:
            EventsGoneError: the entry at the position is not in the log.
        """
        epoch, seq = position
        with self._lock:
            self._check(epoch, seq - 1)
            found: list[LogEntry] = []
            size = 0
            for index in range(seq - self._first, -1, -1):
                entry = self._entries[index]
                size += len(entry.data)
                if found and size > max_bytes:
                    break
                found.append(entry)
            found.reverse()
            return found

    @any_thread
    def check_position(self, position: Position) -> None:
        """Raise EventsGoneError if the log cannot be read from a position."""
        with self._lock:
            self._trim()
            self._check(*position)

    @any_thread
    def newest(self) -> LogEntry | None:
        """Return the newest entry, or None if no entry is kept."""
        with self._lock:
            return self._entries[-1] if self._entries else None

    @any_thread
    def start_new_epoch(self, epoch: str, head: int = 0, *, is_whole: bool = False) -> None:
        """Drop all entries and start another numbering. Readers of the old one get `EventsGoneError("epoch")`.

        Args:
            epoch: the name of the new numbering.
            head: where it begins.
            is_whole: whether what is appended next follows the present head without a loss. Readers that have read all
                learn where to go on then.
        """
        with self._lock:
            self._follows = Position(self._epoch, self._head) if is_whole else None
            self._entries.clear()
            self._epoch = epoch
            self._head = head
            self._size = 0

    @any_thread
    def load(self, epoch: str, head: int, entries: Iterable[StoredEntry]) -> None:
        """Replace the contents by what a store has kept.

        Entries are found by counting back from the head, so only those without a gap up to the head are used. A reader
        of an earlier one gets `EventsGoneError("expired")`.

        Args:
            epoch, head: of the stored log.
            entries: in order.
        """
        with self._lock:
            now = self._clock()
            self._entries = deque()
            seq = head
            for entry in reversed(list(entries)):
                if entry.seq != seq:
                    break
                self._entries.appendleft(LogEntry(entry.seq, entry.data, now - entry.age))
                seq -= 1
            self._follows = None
            self._epoch = epoch
            self._head = head
            self._size = sum(len(entry.data) for entry in self._entries)
            self._trim()

    @any_thread
    def snapshot(self) -> tuple[Position, list[StoredEntry]]:
        """Return the position after the newest entry, and all entries, for a store."""
        with self._lock:
            self._trim()
            now = self._clock()
            entries = [StoredEntry(entry.seq, entry.data, now - entry.at) for entry in self._entries]
            return Position(self._epoch, self._head), entries

    @property
    def _first(self) -> int:
        return self._head + 1 - len(self._entries)

    @requires("_lock")
    def _check(self, epoch: str, after: int) -> None:
        if epoch != self._epoch:
            is_next = self._follows == (epoch, after) and self._first == 1
            raise EventsGoneError("epoch", Position(self._epoch, 0) if is_next else None)
        if after > self._head:
            raise EventsGoneError("ahead")
        if after < self._first - 1:
            raise EventsGoneError("expired")

    @requires("_lock")
    def _trim(self) -> None:
        """Drop entries beyond the bounds."""
        entries, retention = self._entries, self.retention
        now = self._clock()
        oldest, prompt = now - retention.seconds, now - retention.lag
        while entries:
            times = 2 if entries[0].at > prompt else 1
            is_old = entries[0].at < oldest and len(entries) > retention.min_entries
            if not is_old and len(entries) <= times * retention.entries and self._size <= times * retention.size:
                return
            self._size -= len(entries.popleft().data)
