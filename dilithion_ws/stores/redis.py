"""Logs in Redis Streams: several servers publish into them and read from them, so that a client may come back to any.

Redis numbers the events, in a script that is one step, and every server delivers what it reads back, its own events
included. So all have one order. A thread writes, another reads. While Redis is away events wait in a bounded backlog;
after a moment of that, subscribers are told and new ones are asked to come again. A write whose answer was lost is
repeated, and the script knows it again by the writer's own count.

For each topic there are three keys: its epoch, its head (the last number given) and the stream of entries. Where the
epoch is gone, or the head has gone back, Redis has lost what it knew: then a new epoch begins, and everybody is told.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import Any

import redis

from ..clock import Deadline, monotonic
from ..config import Limits
from ..errors import ConfigError, JsonRpcCode
from ..events.hub import EventHub
from ..events.subscriptions import Ending
from ..events.topic import Topic
from .backlog import Backlog

__all__ = ["RedisStore"]

logger = logging.getLogger("dilithion_ws.events")

_PREFIX = "dilithion-ws:"
_BATCH = 200
_BLOCK_MS = 200
_RETRY_SECONDS = 0.2
_WRITER_KEPT = 86_400
_FAULTS = (redis.RedisError, OSError)

_PUBLISH = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then
    epoch = ARGV[1]
    redis.call('DEL', KEYS[2], KEYS[3])
    redis.call('SET', KEYS[1], epoch)
end
local last = redis.call('GET', KEYS[4])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[4], ARGV[2], 'EX', ARGV[3])
local seq = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], seq .. '-0', 'e', epoch, 't', ARGV[5], 'd', ARGV[6])
if epoch == ARGV[8] then redis.call('XTRIM', KEYS[3], 'MINID', ARGV[7] .. '-0') end
return seq
"""

_BEGIN_ANEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


class RedisStore:
    """See above.

    Args:
        url: of the Redis, such as `redis://127.0.0.1:6379/0`.
        limits: bounds of what waits, and how long Redis may be away before subscribers are told.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        try:
            self._redis: Any = redis.Redis.from_url(
                url, socket_timeout=5.0, socket_connect_timeout=2.0, health_check_interval=0
            )
        except ValueError as error:
            raise ConfigError(f"rpcwebsocketeventstore: {error}") from None
        self._backlog = Backlog(limits)
        self._writer = secrets.token_hex(8)
        self._written = 0
        self._adopting = threading.Lock()  # guards `_topics`
        self._topics: dict[str, Topic] = {}
        self._hub: EventHub | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._away_since: float | None = None
        self._told = False

    def start(self, hub: EventHub) -> None:
        """Begins to read and write; Redis may be away."""
        self._hub = hub
        self._stopped.clear()
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f"dilithion-ws-redis-{name}", daemon=True)
            for name, step in (("reader", self._read), ("writer", self._write))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Writes what waits, and ends."""
        while self._threads and len(self._backlog) and self._away_since is None and not deadline.expired:
            self._stopped.wait(0.01)
        self._stopped.set()
        self._backlog.ring()
        for thread in self._threads:
            thread.join(max(0.5, deadline.remaining()))
        if self._threads and len(self._backlog):
            logger.error("Redis did not take all events before the end: %d are lost", len(self._backlog))
        self._threads = []
        self._redis.close()

    def adopt(self, topic: Topic) -> None:
        """Has the log of a new topic filled; until then nobody can subscribe to it."""
        topic.unavailable = "the history of this topic is being read"
        with self._adopting:
            self._topics[topic.name] = topic

    def publish(self, topic: Topic, data: bytes) -> None:
        """Has an event written."""
        self._backlog.put(topic, data)

    def _run(self, step: Any) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except _FAULTS as error:
                logger.debug("Redis: %s", error)
                if step == self._read:
                    self._is_away(error)
                self._stopped.wait(_RETRY_SECONDS)
            except Exception:
                logger.exception("a step of the event store failed; going on")
                self._stopped.wait(_RETRY_SECONDS)

    # Writing

    def _write(self) -> None:
        self._backlog.wait(None)
        while not self._stopped.is_set():
            events = self._backlog.first(_BATCH)
            if not events:
                break
            pipeline = self._redis.pipeline(transaction=False)
            for at, (topic, data) in enumerate(events, 1):
                self._add(pipeline, topic, data, self._written + at)
            pipeline.execute()
            self._written += len(events)
            self._backlog.done(len(events))
        for topic in self._backlog.take_lost():
            self._begin_anew(topic, self._redis.get(_keys(topic)[0]))

    def _add(self, pipeline: Any, topic: Topic, data: bytes, count: int) -> None:
        epoch, first = topic.log.position.epoch, topic.log.first
        pipeline.eval(
            _PUBLISH,
            4,
            *_keys(topic),
            f"{_PREFIX}writer:{self._writer}",
            secrets.token_hex(8),
            count,
            _WRITER_KEPT,
            topic.log.retention.entries,
            int(time.time() * 1000),
            data,
            first,
            epoch,
        )

    def _begin_anew(self, topic: Topic, epoch: bytes | None) -> None:
        """Events were lost: whoever was reading is to be told by a new epoch."""
        if epoch is not None:
            self._redis.eval(_BEGIN_ANEW, 3, *_keys(topic), secrets.token_hex(8), epoch)

    # Reading

    def _read(self) -> None:
        with self._adopting:
            topics = {_keys(topic)[2]: topic for topic in self._topics.values()}
        found = self._redis.mget([key for topic in topics.values() for key in _keys(topic)[:2]])
        for at, topic in enumerate(topics.values()):
            self._check(topic, found[2 * at], int(found[2 * at + 1] or 0))
        self._is_back()
        places = {key: f"{topic.log.position.seq}-0" for key, topic in topics.items()}
        for key, rows in self._redis.xread(places, count=_BATCH, block=_BLOCK_MS):
            self._take(topics[key.decode()], rows)

    def _check(self, topic: Topic, epoch: bytes | None, head: int) -> None:
        """Makes sure that a topic's log is the one that Redis has."""
        mine, seq = topic.log.position
        if epoch is not None and epoch.decode() == mine and head < seq:
            logger.error("Redis has lost events of %s: its log begins anew", topic.name)
            self._begin_anew(topic, epoch)
            epoch = None
        if epoch is None or epoch.decode() != mine or topic.unavailable.startswith("the history"):
            self._load(topic)
            topic.unavailable = ""

    def _load(self, topic: Topic) -> None:
        key_epoch, key_head, key_stream = _keys(topic)
        self._redis.set(key_epoch, secrets.token_hex(8), nx=True)
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(key_epoch)
        pipeline.get(key_head)
        pipeline.xrange(key_stream)
        epoch, head, rows = pipeline.execute()
        now = time.time()
        entries = [
            (_seq(id), fields[b"d"], max(0.0, now - int(fields[b"t"]) / 1000))
            for id, fields in rows
            if fields[b"e"] == epoch
        ]
        topic.log.load(epoch.decode(), int(head or 0), entries)
        assert self._hub is not None
        self._hub.announce(topic)

    def _take(self, topic: Topic, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        assert self._hub is not None
        for id, fields in rows:
            epoch, seq = topic.log.position
            if fields[b"e"].decode() != epoch or _seq(id) <= seq:
                return  # of another epoch: the next look at the keys will tell
            self._hub.append(topic, fields[b"d"], _seq(id))

    # Away and back

    def _is_away(self, error: BaseException) -> None:
        now = monotonic()
        if self._away_since is None:
            self._away_since = now
        if self._told or now - self._away_since < self._limits.store_patience:
            return
        self._told = True
        logger.error("Redis is away (%s): events wait, and subscribers are told", error)
        text = "the event store is away"
        assert self._hub is not None
        with self._adopting:
            topics = list(self._topics.values())
        for topic in topics:
            topic.unavailable = topic.unavailable or text
            self._hub.end_all(topic, Ending(JsonRpcCode.SERVER_BUSY, f"Server busy: {text}", {"retry_after_ms": 1000}))

    def _is_back(self) -> None:
        self._away_since = None
        if self._told:
            self._told = False
            logger.warning("Redis is back; %d events wait to be written", len(self._backlog))
            with self._adopting:
                for topic in self._topics.values():
                    if not topic.unavailable.startswith("the history"):
                        topic.unavailable = ""


def _keys(topic: Topic) -> tuple[str, str, str]:
    """The keys of a topic: epoch, head and stream."""
    return tuple(f"{_PREFIX}{topic.name}:{kind}" for kind in ("epoch", "head", "stream"))  # type: ignore[return-value]


def _seq(id: bytes) -> int:
    return int(id.partition(b"-")[0])
