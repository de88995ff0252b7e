"""A stream: what all subscriptions with the same filter and mode see of a topic.

Frames are made for streams, not for subscribers, so a subscription's id names the stream. A stream without a filter is
the log itself. A stream with a filter keeps the list of matching entries; the topic adds new ones to it.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections import deque
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError
from ..util.position import Position
from ..util.thread_contracts import any_thread, requires
from .filters import Filter, FilterKey
from .log import EventLog, EventsGoneError, LogEntry
from .subscriber import Encoder

__all__ = ["NOTIFICATION", "CHUNK_BYTES", "Batch", "Mode", "Stream", "StreamSpec", "named_mode"]

CHUNK_BYTES = 65536
"""Bytes of events that are sent to one subscriber at a time, before others have their turn."""

_encode = msgspec.json.Encoder().encode


class Mode(str, Enum):
    """What subscribers receive."""

    ALL = "all"
    """Every entry."""
    LATEST = "latest"
    """Only the newest entry, whenever there is something to send."""


LATEST = Mode.LATEST


def named_mode(text: str, topic: str) -> Mode:
    """Return the mode of this name. Raise ConfigError if there is none."""
    try:
        return Mode(text)
    except ValueError:
        raise ConfigError(f"mode of topic {topic} is {text!r}; it takes 'all' or 'latest'") from None


class Batch(NamedTuple):
    """What a subscriber gets next.

    Attributes:
        data: frames, to be sent together.
        seq: the number of the last entry in them.
        more: whether there are more entries after it.
    """

    data: bytes
    seq: int
    more: bool


NOTIFICATION = "subscription"
"""The method of notifications."""


class StreamSpec(NamedTuple):
    """What distinguishes the streams of a topic.

    Attributes:
        topic: the name of the topic.
        filter: which entries it has, or None for all.
        mode: which of them are sent.
        is_default: whether it has all entries in the topic's own mode, as this server's own notifications.
        notification: the name of the method of its notifications.
    """

    topic: str
    filter: Filter | None
    mode: Mode
    is_default: bool
    notification: str = NOTIFICATION

    @property
    def key(self) -> str:
        """A text that is equal for specs with the same meaning."""
        form = "" if self.notification == NOTIFICATION else f"{self.notification} "
        return f"{form}{self.mode.value} {'' if self.filter is None else self.filter.canonical_text}"


class Stream:
    """One filter and mode of a topic.

    Args:
        spec: what it contains.
        log: the topic's log.
        lock: the topic's lock, which guards the matches.

    Attributes:
        id: the id of its subscriptions; the topic's name for the default stream.
        users: subscriptions that read it.
        known_from: the position from which on it knows all matches. Those before it are searched when they are wanted.
    """

    def __init__(self, spec: StreamSpec, log: EventLog, lock: threading.Lock) -> None:
        self.key = spec.key
        self.filter = spec.filter
        self.mode = spec.mode
        self.users = 0
        digest = hashlib.sha256(self.key.encode()).hexdigest()[:12]
        self.id = spec.topic if spec.is_default else f"{spec.topic}-{digest}"
        self.known_from = log.position
        self._log = log
        self._lock = lock  # guards all below
        self._matches: deque[LogEntry] = deque()
        self._last_dropped = self.known_from.seq
        self._ended_at: Position | None = None  # the last match of the epoch before, if none was lost in between
        self._start = b'{"jsonrpc":"2.0","method":%b,"params":{"subscription":%b,"topic":%b,' % (
            _encode(spec.notification),
            _encode(self.id),
            _encode(spec.topic),
        )
        self._prefix = self._start + b'"epoch":'

    def __repr__(self) -> str:
        return f"<Stream {self.id}>"

    # The matches of a stream with a filter

    @requires("_lock")
    def reset(self, position: Position, *, is_whole: bool = False) -> None:
        """Forget all matches. From now on only those after a position are known.

        Args:
            position: of the log's present epoch.
            is_whole: whether the stream knows all matches up to the end of the epoch before, and the log lost nothing.
        """
        last = self._matches[-1].seq if self._matches else self._last_dropped
        self._ended_at = Position(self.known_from.epoch, last) if is_whole else None
        self.known_from = position
        self._matches.clear()
        self._last_dropped = position.seq

    @requires("_lock")
    def add_if_matching(self, entry: LogEntry, keys: frozenset[FilterKey]) -> bool:
        """Add a new entry if it matches, and return whether it does."""
        assert self.filter is not None
        if not self.filter.matches(keys):
            return False
        self._matches.append(entry)
        return True

    @requires("_lock")
    def trim(self, first: int) -> None:
        """Drop matches that the log has dropped. `first` is its oldest entry."""
        while self._matches and self._matches[0].seq < first:
            self._last_dropped = self._matches.popleft().seq

    @any_thread
    def knows(self, position: Position) -> bool:
        """Return whether all matches after a position are known."""
        return self.known_from.epoch == position.epoch and self.known_from.seq <= position.seq

    @any_thread
    def search_back(self, position: Position) -> bool:
        """Search one chunk of the log, before what is known, for matches after a position. Return whether all are known.

        The log is read without the lock, since the topic must be able to add new entries in the meantime. If the stream
        was changed in between, what was found is not used.

        Raises:
            EventsGoneError: the log cannot be read from there.
        """
        assert self.filter is not None
        with self._lock:
            self._check_epoch(position)
            until, dropped = self.known_from, self._last_dropped
        self._log.check_position(position)
        if until.epoch == position.epoch and until.seq > position.seq:
            entries = self._log.read_back(until, CHUNK_BYTES)
            found = [entry for entry in entries if self.filter.matches_event(entry.data)]
            with self._lock:
                if self.known_from == until and self._last_dropped == dropped:
                    self._matches.extendleft(reversed(found))
                    self.known_from = Position(until.epoch, entries[0].seq - 1)
                    self._last_dropped = self.known_from.seq
        return self.knows(position)

    # For subscribers

    @any_thread
    def next_batch(self, position: Position, encoder: Encoder) -> Batch | None:
        """Return what comes after a position, or None if there is nothing yet.

        Raises:
            EventsGoneError: reading cannot continue from there.
        """
        if self.mode is LATEST:
            return self._latest(position, encoder)
        if self.filter is None:
            entries, more = self._log.read(position, CHUNK_BYTES)
            previous = position.seq
        else:
            with self._lock:
                self.trim(self._log.first)
                entries, more, previous = self._matches_after(position)
        if not entries:
            return None
        return Batch(self._frames(position.epoch, entries, previous, encoder), entries[-1].seq, more)

    @requires("_lock")
    def _matches_after(self, position: Position) -> tuple[list[LogEntry], bool, int]:
        """Return matches after a position, whether there are more, and the number of the match before the first one."""
        self._check_epoch(position)
        if not self.knows(position):
            return [], False, 0
        if position.seq < self._last_dropped:
            raise EventsGoneError("expired")
        matches = self._matches
        start = bisect_right(matches, position.seq, key=lambda entry: entry.seq)
        previous = matches[start - 1].seq if start else self._last_dropped
        found: list[LogEntry] = []
        size = 0
        for index in range(start, len(matches)):
            entry = matches[index]
            size += len(entry.data)
            if found and size > CHUNK_BYTES:
                return found, True, previous
            found.append(entry)
        return found, False, previous

    @requires("_lock")
    def _check_epoch(self, position: Position) -> None:
        """Raise EventsGoneError if a position is of an epoch that is over, with the way on if there is one.

        The log may have a new epoch already. Then a position of it is right, and its matches are not known yet.
        """
        if position.epoch == self.known_from.epoch:
            return
        ended_at = self._ended_at
        if ended_at is not None and position.epoch == ended_at.epoch and position.seq >= ended_at.seq:
            begin = Position(self.known_from.epoch, 0)
            self._log.check_position(begin)
            raise EventsGoneError("epoch", begin)
        self._log.check_position(position)

    def _latest(self, position: Position, encoder: Encoder) -> Batch | None:
        """Return the newest entry if it is after a position. Entries in between are skipped."""
        if self.filter is None and position.epoch != self._log.position.epoch:
            self._log.check_position(position)  # raises
        if self.filter is None:
            entry = self._log.newest()
            previous = 0 if entry is None else entry.seq - 1
            if entry is None:
                self._log.check_position(position)
        else:
            with self._lock:
                self.trim(self._log.first)
                entry, previous = self._newest_match(position)
        if entry is None or entry.seq <= position.seq:
            return None
        return Batch(self._frames(position.epoch, [entry], previous, encoder), entry.seq, False)

    @requires("_lock")
    def _newest_match(self, position: Position) -> tuple[LogEntry | None, int]:
        """Return the newest match, and the number of the one before it."""
        self._check_epoch(position)
        matches = self._matches
        if not matches and self._last_dropped > position.seq:
            raise EventsGoneError("expired")
        return (matches[-1] if matches else None), (matches[-2].seq if len(matches) > 1 else self._last_dropped)

    # Frames

    def _frames(self, epoch: str, entries: list[LogEntry], previous: int, encoder: Encoder) -> bytes:
        head = b'%b"%b","seq":' % (self._prefix, epoch.encode())
        frames = []
        for entry in entries:
            frames.append(encoder.encode(b'%b%d,"prev":%d,"result":%b}}' % (head, entry.seq, previous, entry.data)))
            previous = entry.seq
        return frames[0] if len(frames) == 1 else b"".join(frames)

    @any_thread
    def message(self, members: bytes, event: bytes) -> bytes:
        """Return the message of an event that is not from the log, with some members in place of a position in it."""
        return b'%b%b"result":%b}}' % (self._start, members, event)

    @any_thread
    def encode_end(self, encoder: Encoder, code: int, message: str, data: dict[str, Any]) -> bytes:
        """Return the frame with the error that ends a subscription."""
        error = {"code": int(code), "message": message, "data": data}
        epoch, head = self._log.position
        payload = b'%b"%b","seq":%d,"error":%b}}' % (self._prefix, epoch.encode(), head, _encode(error))
        return encoder.encode(payload)
