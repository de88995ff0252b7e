"""A topic: a named log, and the streams that subscribers read from it.

Each new entry is decoded once, and then offered only to the streams that an index of its keys finds: with thousands of
filtered subscriptions an event costs as much as the few that want it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from ..auth.permissions import resolve_rights
from ..config.limits import EventLimits, Limits, limit_reached
from ..errors import EventError
from ..util.clock import Clock
from ..util.json import encode_json
from ..util.position import Position
from ..util.thread_contracts import any_thread, requires
from .filters import Filter, FilterKey, keys_of
from .log import EventLog, EventsGoneError, Retention
from .stream import CHUNK_BYTES, NOTIFICATION, Mode, Stream, StreamSpec

__all__ = ["Availability", "LogFollower", "Topic", "TopicSpec"]

_TRIM_INTERVAL = 256
"""Entries that the log drops before all streams are trimmed again, if a topic has many."""

_UNLIMITED = 1 << 40

_FEW_STREAMS = 64
"""Up to this number of streams, they are trimmed whenever the log has dropped an entry."""


class Availability(Enum):
    """Whether a topic can be subscribed to. The value is the reason why not."""

    AVAILABLE = ""
    LOADING = "the history of this topic is being read"
    STORE_UNREACHABLE = "the event store is away"


class LogFollower(Protocol):
    """Reads a log in a thread of its own. See `Replayer`."""

    def on_event(self) -> None:
        """Record that the log has changed, without blocking."""


class TopicSpec(msgspec.Struct, frozen=True):
    """What a topic is.

    Attributes:
        name: what clients subscribe to.
        permission: what a subscriber must be allowed, or None if nothing was declared.
        retention: how much of it is kept, or None for the server's default.
        mode: what subscribers receive who do not ask for a mode.
        filters: the members that it can be filtered by, each with the member of an event it is compared with.
        schema: the type of its events, or None for any.
        is_followed: whether subscribers follow single values by it, which a `TransactionFollower` serves.
    """

    name: str
    retention: Retention | None = None
    permission: str | None = None
    mode: Mode = Mode.ALL
    filters: Mapping[str, str] = {}
    schema: Any = None
    is_followed: bool = False


class Topic:
    """A named log and its streams. Thread-safe.

    Args:
        spec: what it is.
        clock: seconds that never go backwards.
        epoch: the first epoch of its log.
        shard_count: shards that ask for changes.

    Attributes:
        required_rights: the rights that a subscriber needs.
        check: decodes an event and raises if it does not fit the schema.
        log: its events.
        availability: whether it can be subscribed to.
        follower: what reads the log beside the shards, or None.
    """

    def __init__(self, spec: TopicSpec, clock: Clock, epoch: str, shard_count: int) -> None:
        self.name = spec.name
        self.permission = spec.permission
        self.required_rights = resolve_rights(spec.permission, f"topic {spec.name}")
        self.mode = spec.mode
        self.filters = dict(spec.filters)
        self.schema = spec.schema
        self.is_followed = spec.is_followed
        self.check = msgspec.json.Decoder(Any if spec.schema is None else spec.schema).decode
        assert spec.retention is not None
        self.log = EventLog(spec.retention, clock, epoch)
        self.availability = Availability.AVAILABLE
        self.follower: LogFollower | None = None
        self._lock = threading.Lock()  # guards all below, and the matches of the streams
        self._streams: dict[str, Stream] = {}
        self._unfiltered: list[Stream] = []
        self._dirty: list[set[Stream]] = [set() for _ in range(shard_count)]  # by shard: streams with new matches
        self._index: dict[FilterKey, set[Stream]] = {}
        self._indexed_to = self.log.position
        self._trimmed_to = 0

    def __repr__(self) -> str:
        return f"<Topic {self.name}>"

    @property
    def in_use(self) -> bool:
        """Whether it has a subscriber."""
        return bool(self._streams)

    @any_thread
    def filter_limits(self, limits: EventLimits) -> EventLimits:
        """Return the limits of filters: none for a topic by which single values are followed, which are counted."""
        if not self.is_followed:
            return limits
        return msgspec.structs.replace(limits, filter_values=_UNLIMITED, filter_size=_UNLIMITED)

    @any_thread
    def encode(self, event: Any, limits: Limits) -> bytes:
        """Return an event as JSON. Raise EventError if it is too large or does not fit the schema."""
        try:
            data = encode_json(event)
            self.check(data)  # also without a schema: a Decimal may be NaN, which is not JSON
        except Exception as error:
            raise EventError(f"event for topic {self.name} can't be published: {error}") from None
        if len(data) > limits.events.event_size:
            raise EventError(
                f"event for topic {self.name} has {len(data)} bytes, past the {limit_reached(limits, 'event_size')}"
            )
        return data

    @any_thread
    def acquire_stream(self, filter: Filter | None, mode: Mode, notification: str = NOTIFICATION) -> Stream:
        """Return the stream of a filter, a mode and a form of notifications. Give it back by `release_stream`."""
        is_default = filter is None and mode is self.mode and notification == NOTIFICATION
        spec = StreamSpec(self.name, filter, mode, is_default, notification)
        with self._lock:
            if filter is not None:
                self._index_new_entries()  # so that a stream knows all matches from its place on, in the present epoch
            stream = self._streams.get(spec.key)
            if stream is None:
                stream = self._streams[spec.key] = Stream(spec, self.log, self._lock)
                if filter is None:
                    self._unfiltered.append(stream)
                else:
                    stream.reset(self._indexed_to)
                    for key in filter.index_keys:
                        self._index.setdefault(key, set()).add(stream)
            stream.users += 1
            return stream

    @any_thread
    def release_stream(self, stream: Stream) -> None:
        """Release a stream, and remove it if it has no users."""
        with self._lock:
            stream.users -= 1
            if stream.users:
                return
            del self._streams[stream.key]
            for dirty in self._dirty:
                dirty.discard(stream)
            if stream.filter is None:
                self._unfiltered.remove(stream)
            else:
                for key in stream.filter.index_keys:
                    found = self._index[key]
                    found.discard(stream)
                    if not found:
                        del self._index[key]

    @any_thread
    def since(self, epoch: str, seq: int) -> list[Any] | None:
        """Return the decoded events after a position, or None if the log does not reach back to it."""
        position, found, more = Position(epoch, seq), [], True
        try:
            while more:
                entries, more = self.log.read(position, CHUNK_BYTES)
                found += [msgspec.json.decode(entry.data) for entry in entries]
                position = Position(epoch, entries[-1].seq if entries else position.seq)
        except EventsGoneError:
            return None
        return found

    @any_thread
    def take_dirty_streams(self, shard: int) -> list[Stream]:
        """Return the streams that may have something new for the subscribers of a shard, and mark them as clean."""
        with self._lock:
            self._index_new_entries()
            dirty, self._dirty[shard] = self._dirty[shard], set()
            return [*self._unfiltered, *dirty]

    @requires("_lock")
    def _index_new_entries(self) -> None:
        """Add entries since the last call to the streams that they match."""
        if not self._index:
            self._indexed_to = self.log.position
            return
        more = True
        while more:
            try:
                entries, more = self.log.read(self._indexed_to, CHUNK_BYTES)
            except EventsGoneError as gone:
                # Entries were dropped before they were indexed, or the log has another epoch. Which streams they would
                # have matched is not known, so every filtered stream starts again and its readers get "expired". If
                # the new epoch continues where the index ends, nothing was lost, and they learn where to go on.
                epoch, _ = self.log.position
                self._indexed_to = Position(epoch, self.log.first - 1)
                for stream in self._streams.values():
                    if stream.filter is not None:
                        stream.reset(self._indexed_to, is_whole=gone.next is not None)
                        self._mark_dirty(stream)
                continue
            for entry in entries:
                keys = keys_of(entry.data, self.filters)
                for stream in {stream for key in keys for stream in self._index.get(key, ())}:
                    if stream.add_if_matching(entry, keys):
                        self._mark_dirty(stream)
            if entries:
                self._indexed_to = Position(self._indexed_to.epoch, entries[-1].seq)
        self._trim_streams()

    @requires("_lock")
    def _trim_streams(self) -> None:
        """Release matches that the log has dropped: at once if there are few streams, else now and then."""
        first = self.log.first
        interval = 0 if len(self._streams) <= _FEW_STREAMS else _TRIM_INTERVAL
        if first < self._trimmed_to or first > self._trimmed_to + interval:
            self._trimmed_to = first
            for stream in self._streams.values():
                stream.trim(first)

    @requires("_lock")
    def _mark_dirty(self, stream: Stream) -> None:
        for dirty in self._dirty:
            dirty.add(stream)
