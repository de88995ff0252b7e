"""Read the logs of topics back from Redis, the events of this server included.

Other programs, people and faults change what Redis has. Each topic is looked at by itself: what cannot be used of one
starts a new epoch of this topic, and the others are not held up. A damaged entry is skipped; the log then has a gap,
which no reader crosses unnoticed.

A Redis without an append-only file comes back from a restart with an older copy. A server that has run all the time
notices the lower head. One that starts after that has no memory; so each entry names the run of Redis in which it was
written, and a log whose last entry is of another run is not continued.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis

from ..events.hub import USER_PREFIX
from ..events.log import StoredEntry
from ..events.store import LogWriter
from ..events.topic import Availability, Topic
from ..util.clock import monotonic
from ..util.position import Position
from ..util.thread_contracts import any_thread, owner_only
from .checksums import checksum
from .redis_endpoint import RedisEndpoint
from .redis_scripts import BEGIN, REPLACE_EPOCH

__all__ = ["RedisKeys", "RedisReader", "life_of"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 200
_PAGE = 1000
"""Entries that are read at a time, live and while a log is loaded."""
_BLOCK_MS = 200
_USER_KEPT = 3600
"""Seconds for which Redis keeps topics of users beyond the age of their events."""
_RENEWED_AFTER = 600.0
"""Seconds after which that is renewed for those in use."""
_EPOCH = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_MOST_EVENTS = 1 << 53
_RUN_LENGTH = 8

Rows = list[tuple[bytes, dict[bytes, bytes]]]


class RedisKeys(NamedTuple):
    """The keys of a topic."""

    epoch: str
    head: str
    stream: str


class _Head(NamedTuple):
    """Where a log ends in Redis. The epoch is "" if Redis does not know the topic, or has lost it."""

    epoch: str
    seq: int


class _UnusableError(Exception):
    """What Redis has of a topic is not what servers write."""


class RedisReader:
    """Reads the topics of one server. One thread uses it, but for `read_positions`.

    Args:
        endpoint: where Redis is.

    Attributes:
        damaged: how many stored events were not as they had been written.
        run: the present run of Redis, None until it is known, "" if this user may not know it.
        is_durable: whether Redis has all events after a restart.
    """

    def __init__(self, endpoint: RedisEndpoint) -> None:
        self._endpoint = endpoint
        self._log_writer: LogWriter | None = None
        self._read_to: dict[Topic, int] = {}  # the last entry that was looked at
        self._renew_at = 0.0
        self.is_durable = True
        self._has_warned = False
        self.run: str | None = None
        self.damaged = 0

    @owner_only
    def start(self, writer: LogWriter) -> None:
        """Begin to read."""
        self._log_writer = writer
        self._read_to.clear()
        self.run = None

    @any_thread
    def on_fault(self) -> None:
        """Record that a command has failed. Redis may have been restarted."""
        self.run = None

    @any_thread
    def keys(self, topic: Topic) -> RedisKeys:
        """Return the keys of a topic."""
        return RedisKeys(*(f"{self._endpoint.prefix}{topic.name}:{kind}" for kind in ("epoch", "head", "stream")))

    @owner_only
    def check_all(self, topics: Sequence[Topic]) -> None:
        """Compare the logs of topics with those in Redis, and load those that are not the same."""
        self.look_at_redis()
        for topic, found in self._read_heads(topics).items():
            self._guard(topic, lambda topic=topic, found=found: self._check(topic, _head_of(*found)))  # type: ignore[misc]
        if len(self._read_to) > len(topics):
            self._read_to = {topic: self._read_to[topic] for topic in topics if topic in self._read_to}
        if monotonic() >= self._renew_at:
            self._renew_at = monotonic() + _RENEWED_AFTER
            self._renew([topic for topic in topics if life_of(topic)])

    @owner_only
    def read_new(self, topics: Sequence[Topic]) -> None:
        """Wait a moment for new entries of topics, and append them to the logs."""
        places = {self.keys(topic).stream: topic for topic in topics}
        positions = {key: f"{self._read_to[topic]}-0" for key, topic in places.items() if topic in self._read_to}
        if not positions:
            return
        try:
            found = self._endpoint.client.xread(positions, count=_BATCH, block=_BLOCK_MS)
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            for key, topic in places.items():  # one of them is not a stream
                self._guard(topic, lambda key=key: self._endpoint.client.xread({key: "0-0"}, count=1))  # type: ignore[misc]
            return
        for key, rows in found:
            self._append(places[key.decode()], rows)

    @any_thread
    def read_positions(self, topics: Sequence[Topic]) -> dict[Topic, Position]:
        """Return where the logs of topics end in Redis. The epoch is "" if Redis does not know a topic."""
        return {topic: Position(*_head_of(*found)) for topic, found in self._read_heads(topics).items()}

    @any_thread
    def replace_epoch(self, topic: Topic, epoch: str, lease_key: str = "", token: str = "") -> None:
        """Start a new epoch of a topic in Redis, unless another server has done so since this epoch was read.

        Args:
            topic: the topic.
            epoch: the one that was read; "" for any.
            lease_key, token: of a leader, whose leadership must not be over.
        """
        keys = (*self.keys(topic), lease_key or f"{self._endpoint.prefix}leader:")
        self._endpoint.client.eval(REPLACE_EPOCH, len(keys), *keys, secrets.token_hex(8), epoch, token, life_of(topic))

    @any_thread
    def look_at_redis(self) -> None:
        """Learn which run of Redis this is, and whether it has all events after a restart, unless that is known."""
        if self.run is not None:
            return
        try:
            server, persistence = (self._endpoint.client.info(section) for section in ("server", "persistence"))
        except redis.exceptions.NoPermissionError:
            text = "this user of Redis may not call INFO: a restart of Redis without its last events is not noticed"
            self.is_durable, self.run = True, ""
        else:
            text = "Redis has no append-only file: servers that start after a restart of it begin new epochs"
            self.is_durable = bool(persistence.get("aof_enabled"))
            self.run = str(server["run_id"])[:_RUN_LENGTH]
        if not (self.run and self.is_durable) and not self._has_warned:
            self._has_warned = True
            logger.warning("%s (docs/events.md)", text)

    def _read_heads(self, topics: Sequence[Topic]) -> dict[Topic, tuple[bytes | None, bytes | None]]:
        """Read epochs and heads by one command, so that each pair belongs together."""
        if not topics:
            return {}
        found = self._endpoint.client.mget([key for topic in topics for key in self.keys(topic)[:2]])
        return dict(zip(topics, zip(found[::2], found[1::2], strict=True), strict=True))

    def _guard(self, topic: Topic, step: Callable[[], Any]) -> None:
        """Do something with a topic. If what Redis has of it cannot be used, start a new epoch."""
        try:
            step()
        except (_UnusableError, redis.ResponseError) as error:
            if isinstance(error, redis.ResponseError) and "WRONGTYPE" not in str(error):
                raise
            logger.error("what Redis has of %s can't be used (%s): its log starts a new epoch", topic.name, error)
            self.replace_epoch(topic, "")
            self._load(topic)

    def _check(self, topic: Topic, stored: _Head) -> None:
        """Compare a topic's log with the one in Redis, and load it if they are not the same."""
        epoch, seq = topic.log.position
        if topic.availability is Availability.LOADING:
            self._load(topic, has_memory=False)
            return
        if stored.epoch == epoch and stored.seq >= seq:
            if topic not in self._read_to:
                self._load(topic)
            return
        if stored.epoch == epoch:
            logger.error("Redis has lost events of %s: its log starts a new epoch", topic.name)
            self.replace_epoch(topic, epoch)
        elif stored.epoch:
            logger.warning("the log of %s has a new epoch in Redis", topic.name)
        else:
            logger.error("Redis has lost the history of %s: its log starts a new epoch", topic.name)
        self._load(topic)

    def _load(self, topic: Topic, *, has_memory: bool = True) -> None:
        """Replace a log by what Redis has. Without a memory of it, Redis must have it from its present run."""
        keys, client = self.keys(topic), self._endpoint.client
        client.eval(BEGIN, len(keys), *keys, secrets.token_hex(8))
        rows: Rows = []
        while True:
            pipeline = client.pipeline(transaction=True)
            pipeline.mget(keys.epoch, keys.head)
            pipeline.time()
            pipeline.xrange(keys.stream, min=f"({rows[-1][0].decode()}" if rows else "-", count=_PAGE)
            found, (seconds, microseconds), page = pipeline.execute()
            rows += page
            if len(page) < _PAGE:
                break
        stored = _head_of(*found)
        run = rows[-1][1].get(b"r") if rows else None  # None also of a server before 0.2
        if not has_memory and not self.is_durable and run not in (None, (self.run or "").encode()):
            logger.warning("Redis was restarted and may have lost events of %s: its log starts a new epoch", topic.name)
            self.replace_epoch(topic, stored.epoch)
            self._load(topic)
            return
        now = seconds + microseconds / 1e6
        entries = [entry for id, fields in rows if (entry := self._entry(topic, stored.epoch, id, fields, now))]
        topic.log.load(stored.epoch, stored.seq, entries)
        self._read_to[topic] = stored.seq
        if life_of(topic):
            self._renew([topic])
        topic.availability = Availability.AVAILABLE
        assert self._log_writer is not None
        self._log_writer.announce(topic)

    def _append(self, topic: Topic, rows: Rows) -> None:
        """Append entries to a log. Those that are left out leave a gap, which no reader crosses unnoticed."""
        assert self._log_writer is not None
        for id, fields in rows:
            epoch, seq = topic.log.position
            number = self._read_to[topic] = _seq(id)
            entry = self._entry(topic, epoch, id, fields, 0.0)
            if entry is not None and number > seq:
                self._log_writer.append(topic, entry.data, number)

    def _entry(self, topic: Topic, epoch: str, id: bytes, fields: dict[bytes, bytes], now: float) -> StoredEntry | None:
        """Return an entry, or None if it is of another epoch, or not as it was written.

        Servers before 0.2 wrote no checksum.
        """
        if fields.get(b"e") != epoch.encode():
            return None
        data, at, found = fields.get(b"d"), fields.get(b"t", b""), fields.get(b"c")
        if data is None or not at.isdigit() or found not in (None, checksum(topic.name, data).encode()):
            self.damaged += 1
            logger.error("the event %s of %s in Redis is damaged: it is left out", id.decode(), topic.name)
            return None
        return StoredEntry(_seq(id), data, max(0.0, now - int(at) / 1000))

    def _renew(self, topics: Sequence[Topic]) -> None:
        """Have Redis keep topics of users that are in use here."""
        pipeline = self._endpoint.client.pipeline(transaction=False)
        for topic in topics:
            for key in self.keys(topic):
                pipeline.expire(key, life_of(topic))
        pipeline.execute()


def life_of(topic: Topic) -> int:
    """Return the seconds for which Redis keeps a topic that is not used; 0 for ever."""
    return int(topic.log.retention.seconds) + _USER_KEPT if topic.name.startswith(USER_PREFIX) else 0


def _head_of(epoch: bytes | None, head: bytes | None) -> _Head:
    """Return where a log ends. Raise _UnusableError if that is not what servers write."""
    if epoch is None or head is None:
        return _Head("", 0)
    if not _EPOCH.fullmatch(epoch):
        raise _UnusableError(f"its epoch is {epoch[:32]!r}")
    if not head.isdigit() or int(head) >= _MOST_EVENTS:
        raise _UnusableError(f"its head is {head[:32]!r}")
    return _Head(epoch.decode(), int(head))


def _seq(id: bytes) -> int:
    return int(id.partition(b"-")[0])
