"""A topic: its log, and the streams that subscribers read from it.

A stream is what all subscribers with the same filter and mode see. Frames are made for streams, not for subscribers, so a
subscription's id names the stream. A stream without a filter is the log itself. One with a filter keeps a list of the
entries that match, brought up to date when there is something new: each entry is looked at once a topic, and then by
those streams only that an index of their keys finds.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from ..util.clock import Clock
from .filters import Filter, Key, keys_of
from .log import EventLog, EventsGoneError, LogEntry, Position, Retention

__all__ = ["ALL", "LATEST", "Batch", "Stream", "Topic"]

ALL, LATEST = "all", "latest"
"""Modes: every entry, or only the newest whenever there is something to send."""

_CHUNK = 65536
"""Bytes of events that are sent to one subscriber at a time, before others have their turn."""

_SWEEP, _FEW = 256, 64
"""Entries that the log drops between two sweeps over all streams, where these are not few."""

_encode = msgspec.json.Encoder().encode


class Batch(NamedTuple):
    """What a subscriber gets next.

    Attributes:
        data: frames, to be sent together.
        seq: the number of the last entry in them.
        more: whether there is more behind it.
    """

    data: bytes
    seq: int
    more: bool


class Topic:
    """A named log and its streams. Thread-safe.

    Args:
        name: what clients subscribe to.
        permission: what they must be allowed; None where nothing was declared.
        retention: how much is kept.
        mode: what subscribers get who don't say: `all` or `latest`.
        filters: by member of a filter, the member of an event that it looks at.
        schema: the type that events must have; None for any.
        clock: seconds that never go backwards.
        epoch: the name of the log's numbering.
        frame: makes a frame of a payload, in the framing of a sink.
        shards: how many there are that ask for news.
    """

    def __init__(
        self,
        name: str,
        permission: str | None,
        retention: Retention,
        mode: str,
        filters: Mapping[str, str],
        schema: Any,
        clock: Clock,
        epoch: str,
        frame: Callable[[bytes, Any], bytes],
        shards: int,
    ) -> None:
        self.name = name
        self.permission = permission
        self.mode = mode
        self.filters = dict(filters)
        self.schema = schema
        self.check = msgspec.json.Decoder(Any if schema is None else schema).decode
        self.frame = frame
        self.log = EventLog(retention, clock, epoch)
        self._matching = threading.Lock()  # guards the streams' lists of matches, the index and `_looked_at`
        self._streams: dict[str, Stream] = {}
        self._plain: list[Stream] = []
        self._news: list[set[Stream]] = [set() for _ in range(shards)]
        self._swept = 0
        self._index: dict[Key, set[Stream]] = {}
        self._looked_at = self.log.position
        self.unavailable = ""  # why nobody can subscribe now; empty where everybody can
        self.need = -1  # rights, once somebody has worked them out from the permission

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"

    @property
    def in_use(self) -> bool:
        """Whether it has a subscriber."""
        return bool(self._streams)

    def stream(self, filter: Filter | None, mode: str) -> Stream:
        """The stream for a filter and a mode, to be given back by `release`."""
        text = "" if filter is None else filter.text
        with self._matching:
            key = f"{mode} {text}"
            stream = self._streams.get(key)
            if stream is None:
                stream = self._streams[key] = Stream(self, filter, mode, key)
                if filter is None:
                    self._plain.append(stream)
                else:
                    self._advance()  # the others' entries up to now, so that this one begins at the head
                    stream.begin(self._looked_at)
                    for index_key in filter.index:
                        self._index.setdefault(index_key, set()).add(stream)
            stream.users += 1
            return stream

    def release(self, stream: Stream) -> None:
        """Gives a stream back; the last one to do so ends it."""
        with self._matching:
            stream.users -= 1
            if stream.users:
                return
            del self._streams[stream.key]
            for news in self._news:
                news.discard(stream)
            if stream.filter is None:
                self._plain.remove(stream)
            else:
                for key in stream.filter.index:
                    found = self._index[key]
                    found.discard(stream)
                    if not found:
                        del self._index[key]

    def since(self, epoch: str, seq: int) -> list[Any] | None:
        """The events behind a place, as a host may read them; None where the log does not reach back to it."""
        position, found, more = Position(epoch, seq), [], True
        try:
            while more:
                entries, more = self.log.read(position, _CHUNK)
                found += [msgspec.json.decode(entry.data) for entry in entries]
                position = Position(epoch, entries[-1].seq if entries else position.seq)
        except EventsGoneError:
            return None
        return found

    def advance(self, shard: int) -> list[Stream]:
        """Brings the streams up to date; returns those that may have something new for the subscribers of one shard."""
        with self._matching:
            self._advance()
            news, self._news[shard] = self._news[shard], set()
            return [*self._plain, *news]

    def _advance(self) -> None:
        """Gives new entries to the streams that want them; requires holding the lock."""
        assert self._matching.locked()
        if not self._index:
            self._looked_at = self.log.position
            return
        more = True
        while more:
            try:
                entries, more = self.log.read(self._looked_at, _CHUNK)
            except EventsGoneError:  # nobody looked for as long as the log reaches back, or it has another epoch
                epoch, _ = self.log.position
                self._looked_at = Position(epoch, self.log.first - 1)
                for stream in self._streams.values():
                    if stream.filter is not None:
                        stream.begin(self._looked_at)
                        self._has_news(stream)
                continue
            for entry in entries:
                keys = keys_of(entry.data, self.filters)
                for stream in {stream for key in keys for stream in self._index.get(key, ())}:
                    if stream.consider(entry, keys):
                        self._has_news(stream)
            if entries:
                self._looked_at = Position(self._looked_at.epoch, entries[-1].seq)
        first = self.log.first
        few = len(self._streams) <= _FEW
        if first < self._swept or first > self._swept + (0 if few else _SWEEP):
            self._swept = first  # so that no stream holds on to what the log has dropped
            for stream in self._streams.values():
                stream.sweep(first)

    def _has_news(self, stream: Stream) -> None:
        for news in self._news:
            news.add(stream)

    def look_back(self, stream: Stream, position: Position) -> None:
        """Makes sure that a stream with a filter has what matched behind a place. Raises EventsGoneError."""
        filter = stream.filter
        assert filter is not None
        while stream.begins.epoch != position.epoch or stream.begins.seq > position.seq:
            until, found, at, more = stream.begins, [], position, True
            while more and at.seq < until.seq:  # without the lock: it may be many, and others have new ones to look at
                entries, more = self.log.read(at, _CHUNK)
                found += [entry for entry in entries if filter.matches(keys_of(entry.data, self.filters))]
                if entries:
                    at = Position(at.epoch, entries[-1].seq)
            with self._matching:
                if stream.begins == until:
                    stream.prepend(position, [entry for entry in found if entry.seq <= until.seq])

    def matches_after(self, stream: Stream, position: Position) -> tuple[list[LogEntry], bool, int]:
        """For a stream with a filter: entries behind a place, whether there are more, and the one before the first."""
        with self._matching:
            stream.sweep(self.log.first)
            return stream.after(position, _CHUNK)

    def newest_match(self, stream: Stream, position: Position) -> tuple[LogEntry | None, int]:
        """For a stream with a filter: the newest entry, and the number of the one before it."""
        with self._matching:
            stream.sweep(self.log.first)
            return stream.newest(position)


class Stream:
    """What subscribers with the same filter and mode see of a topic. What it keeps is guarded by the topic's lock.

    Attributes:
        id: the subscription's id.
        users: subscriptions on it.
        begins: behind which place it knows what matches.
    """

    def __init__(self, topic: Topic, filter: Filter | None, mode: str, key: str) -> None:
        self.topic = topic
        self.filter = filter
        self.mode = mode
        self.key = key
        self.users = 0
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        self.id = topic.name if filter is None and mode == topic.mode else f"{topic.name}-{digest}"
        self.begins = topic.log.position
        self._matches: deque[LogEntry] = deque()
        self._dropped = self.begins.seq
        self._head = b'{"jsonrpc":"2.0","method":"subscription","params":{"subscription":%b,"topic":%b,"epoch":' % (
            _encode(self.id),
            _encode(topic.name),
        )

    def __repr__(self) -> str:
        return f"<Stream {self.id}>"

    # With a filter; requires holding the topic's lock

    def begin(self, position: Position) -> None:
        """Forgets all, and knows only what comes behind a place."""
        self.begins = position
        self._matches.clear()
        self._dropped = position.seq

    def consider(self, entry: LogEntry, keys: frozenset[Key]) -> bool:
        """Takes an entry in where it matches; whether it does."""
        assert self.filter is not None
        if not self.filter.matches(keys):
            return False
        self._matches.append(entry)
        return True

    def sweep(self, first: int) -> None:
        """Drops what the log has dropped, which begins at `first`."""
        while self._matches and self._matches[0].seq < first:
            self._dropped = self._matches.popleft().seq

    def prepend(self, position: Position, found: list[LogEntry]) -> None:
        """Takes in what matched between an earlier place and the one where it began."""
        self._matches.extendleft(reversed(found))
        self.begins = position
        self._dropped = position.seq

    def after(self, position: Position, most: int) -> tuple[list[LogEntry], bool, int]:
        """Entries behind a place, whether there are more, and the number of the one before the first."""
        if position.epoch != self.begins.epoch:
            raise EventsGoneError("epoch")
        if position.seq < self._dropped:
            raise EventsGoneError("expired")
        found: list[LogEntry] = []
        size, before = 0, self._dropped
        for entry in reversed(self._matches):
            if entry.seq <= position.seq:
                before = entry.seq
                break
            found.append(entry)
        found.reverse()
        for at, entry in enumerate(found):
            size += len(entry.data)
            if at and size > most:
                return found[:at], True, before
        return found, False, before

    def newest(self, position: Position) -> tuple[LogEntry | None, int]:
        """The newest entry, and the number of the one before it. Raises EventsGoneError where that has been dropped."""
        matches = self._matches
        if not matches and self._dropped > position.seq:
            raise EventsGoneError("expired")
        return (matches[-1] if matches else None), (matches[-2].seq if len(matches) > 1 else self._dropped)

    # For subscribers

    def next(self, position: Position, framing: Any) -> Batch | None:
        """What comes behind a place, None where there is nothing yet. Raises EventsGoneError."""
        if self.mode == LATEST:
            return self._latest(position, framing)
        if self.filter is None:
            entries, more = self.topic.log.read(position, _CHUNK)
            before = position.seq
        else:
            entries, more, before = self.topic.matches_after(self, position)
        if not entries:
            return None
        return Batch(self._frames(position.epoch, entries, before, framing), entries[-1].seq, more)

    def _latest(self, position: Position, framing: Any) -> Batch | None:
        """The newest entry, where it is behind a place; what is between is skipped."""
        log = self.topic.log
        if position.epoch != log.position.epoch:
            raise EventsGoneError("epoch")
        if self.filter is None:
            entry = log.newest()
            before = 0 if entry is None else entry.seq - 1
            if entry is None:
                log.check(position)
        else:
            entry, before = self.topic.newest_match(self, position)
        if entry is None or entry.seq <= position.seq:
            return None
        return Batch(self._frames(position.epoch, [entry], before, framing), entry.seq, False)

    def _frames(self, epoch: str, entries: list[LogEntry], before: int, framing: Any) -> bytes:
        frame = self.topic.frame
        head = b'%b"%b","seq":' % (self._head, epoch.encode())
        frames = []
        for entry in entries:
            frames.append(frame(b'%b%d,"prev":%d,"result":%b}}' % (head, entry.seq, before, entry.data), framing))
            before = entry.seq
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def end_frame(self, position: Position, framing: Any, code: int, message: str, data: dict[str, Any]) -> bytes:
        """The terminal error of a subscription that stands at a place."""
        error = {"code": int(code), "message": message, "data": {"epoch": position.epoch, "seq": position.seq, **data}}
        epoch, now = self.topic.log.position
        payload = b'%b"%b","seq":%d,"error":%b}}' % (self._head, epoch.encode(), now, _encode(error))
        return self.topic.frame(payload, framing)
