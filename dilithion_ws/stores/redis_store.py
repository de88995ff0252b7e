"""Logs in Redis Streams: several servers publish into them and read from them, so that a client may come back to any.

Redis numbers the events, in a script that is one step, and every server delivers what it reads back, its own events
included. So all have one order. A thread writes, another reads. While Redis is away events wait in a bounded backlog;
after a moment of that, subscribers are told and new ones are asked to come again. A write whose answer was lost is
repeated, and the script knows it again by the writer's own count.

For each topic there are three keys: its epoch, its head (the last number given) and the stream of entries. Where the
epoch is gone, or the head has gone back, Redis has lost what it knew: then a new epoch begins, and everybody is told.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..config.limits import Limits
from ..errors import ConfigError, JsonRpcCode, NotLeadingError
from ..events.cursor import EndOfStream
from ..events.election import Leadership
from ..events.hub import USER_PREFIX, EventHub
from ..events.log import Position
from ..events.topic import Topic
from ..util.clock import Deadline, monotonic
from .lease import Lease
from .write_queue import WriteQueue

__all__ = ["RedisStore"]

logger = logging.getLogger("dilithion_ws.events")

_PREFIX = "dilithion-ws:"
_BATCH = 200
_BLOCK_MS = 200
_RETRY_SECONDS = 0.2
_PATIENCE = 1.5
_WRITER_KEPT = 86_400
_USER_KEPT = 3600
"""Seconds that keys of writers, and of users' topics beyond the age of their events, are kept."""
_FAULTS = (redis.RedisError, OSError)

_PUBLISH = """
local epoch = redis.call('GET', KEYS[1])
local head = tonumber(redis.call('GET', KEYS[2]) or '0')
if not epoch or (epoch == ARGV[8] and head < tonumber(ARGV[9])) then
    epoch, head = ARGV[1], 0
    redis.call('DEL', KEYS[2], KEYS[3])
    redis.call('SET', KEYS[1], epoch)
end
local count, last = tonumber(ARGV[2]), redis.call('GET', KEYS[4])
if last and tonumber(last) >= count then return 0 end
if (last and tonumber(last) ~= count - 1) or (not last and ARGV[10] ~= '1') then
    return redis.error_reply('the event before this one was not kept')
end
if ARGV[12] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[12] then
    redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
    return -1
end
head = head + 1
redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[4], head .. '-0', 'e', epoch, 't', ARGV[5], 'd', ARGV[6])
redis.call('SET', KEYS[2], head)
redis.call('SET', KEYS[4], count, 'EX', ARGV[3])
if epoch == ARGV[8] then redis.call('XTRIM', KEYS[3], 'MINID', ARGV[7] .. '-0') end
if tonumber(ARGV[11]) > 0 then
    for at = 1, 3 do redis.call('EXPIRE', KEYS[at], ARGV[11]) end
end
return head
"""

_BEGIN_ANEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[3] then return 0 end
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
                url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE, retry=Retry(NoBackoff(), 0)
            )
        except ValueError as error:
            raise ConfigError(f"rpcwebsocketeventstore: {error}") from None
        self._backlog = WriteQueue(limits)
        self._writer = secrets.token_hex(8)
        self._written = 0
        self._adopting = threading.Lock()  # guards `_topics`, and who is away
        self._topics: dict[str, Topic] = {}
        self._hub: EventHub | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._away: set[str] = set()
        self._fine_at = {"reader": 0.0, "writer": 0.0}
        self._told = False
        self._lease: Lease | None = None

    def start(self, hub: EventHub) -> None:
        """Begins to read and write; Redis may be away."""
        self._hub = hub
        self._stopped.clear()
        if self._lease is not None:
            self._lease.resume()
        self._fine_at = dict.fromkeys(self._fine_at, monotonic())
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f"dilithion-ws-redis-{name}", daemon=True)
            for name, step in (("reader", self._read), ("writer", self._write))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Writes what waits, and ends."""
        while self._threads and len(self._backlog) and not self._away and not deadline.expired:
            self._stopped.wait(0.01)
        self._stopped.set()
        self._backlog.ring()
        for thread in self._threads:
            thread.join(max(0.5, deadline.remaining()))
        if self._threads and len(self._backlog):
            logger.error("Redis did not take all events before the end: %d are lost", len(self._backlog))
        self._threads = []
        if self._lease is not None:
            with contextlib.suppress(*_FAULTS):
                self._lease.resign(self._redis)
        self._redis.close()

    def adopt(self, topic: Topic) -> None:
        """Has the log of a new topic filled; until then nobody can subscribe to it."""
        topic.unavailable = "the history of this topic is being read"
        with self._adopting:
            self._topics[topic.name] = topic

    def forget(self, topic: Topic) -> None:
        """Reads a topic no more; what Redis has of it is for other servers, until it expires."""
        with self._adopting:
            if self._topics.get(topic.name) is topic:
                del self._topics[topic.name]

    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Has an event written; not that of a topic which another server leads."""
        self._put(topic, data, term)

    def begin_anew(self, topic: Topic, term: int = 0) -> None:
        """Has a new epoch written; likewise."""
        self._put(topic, None, term)

    def _put(self, topic: Topic, data: bytes | None, term: int) -> None:
        lease = self._lease
        if lease is None or topic not in lease.topics:
            self._backlog.put(topic, data)
            return
        token = lease.token(term or lease.term)
        if token:
            self._backlog.put(topic, data, token)
        elif term:
            raise NotLeadingError(f"term {term} of publishing to {topic.name} is over")

    def lead(self, topics: list[Topic]) -> Leadership:
        """Begins to try for the leadership of some topics; once for each store."""
        if self._lease is not None:
            raise ConfigError("this server tries to lead already")
        names = ",".join(sorted(topic.name for topic in topics))
        self._lease = Lease(f"{_PREFIX}leader:{names}", topics, self._writer, self._limits.history.leader_patience)
        return self._lease

    def _run(self, step: Any) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except _FAULTS as error:
                logger.debug("Redis: %s", error)
                self._is_away("reader" if step == self._read else "writer", error)
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
                anew = self._backlog.epoch()
                if anew is None:
                    break
                self._begin_anew(anew[0], self._redis.get(_keys(anew[0])[0]), anew[1])
                self._backlog.done(1)
                continue
            pipeline = self._redis.pipeline(transaction=False)
            for at, (topic, data, token) in enumerate(events, 1):
                self._add(pipeline, topic, data, token, self._written + at, is_first=at == 1)
            results = pipeline.execute(raise_on_error=False)
            faults = [at for at, result in enumerate(results) if isinstance(result, Exception)]
            kept = faults[0] if faults else len(events)
            self._written += kept
            self._backlog.done(kept)
            if faults:
                raise results[kept]
        for topic, token in self._backlog.lost():
            self._begin_anew(topic, self._redis.get(_keys(topic)[0]), token)
            self._backlog.told(topic)
        self._is_fine("writer")

    def _add(self, pipeline: Any, topic: Topic, data: bytes, token: str, count: int, *, is_first: bool) -> None:
        (epoch, seq), retention = topic.log.position, topic.log.retention
        life = int(retention.seconds) + _USER_KEPT if topic.name.startswith(USER_PREFIX) else 0
        pipeline.eval(
            _PUBLISH,
            5,
            *_keys(topic),
            f"{_PREFIX}writer:{self._writer}",
            self._lease.key if self._lease is not None else "",
            secrets.token_hex(8),
            count,
            _WRITER_KEPT,
            retention.entries,
            int(time.time() * 1000),
            data,
            topic.log.first,
            epoch,
            seq,
            int(is_first),
            life,
            token,
        )

    def _begin_anew(self, topic: Topic, epoch: bytes | None, token: str = "") -> None:
        """Events were lost: whoever was reading is to be told by a new epoch."""
        if epoch is not None:
            key = self._lease.key if self._lease is not None else ""
            self._redis.eval(_BEGIN_ANEW, 4, *_keys(topic), key, secrets.token_hex(8), epoch, token)

    # Reading

    def _read(self) -> None:
        with self._adopting:
            topics = {_keys(topic)[2]: topic for topic in self._topics.values()}
        found = self._redis.mget([key for topic in topics.values() for key in _keys(topic)[:2]])
        for at, topic in enumerate(topics.values()):
            self._check(topic, found[2 * at], int(found[2 * at + 1] or 0))
        self._is_fine("reader")
        if self._lease is not None:
            self._lease.step(self._redis, self._ends)
        places = {key: f"{topic.log.position.seq}-0" for key, topic in topics.items()}
        for key, rows in self._redis.xread(places, count=_BATCH, block=_BLOCK_MS):
            self._take(topics[key.decode()], rows)

    def _ends(self, topics: list[Topic]) -> dict[Topic, Position]:
        """Where topics' logs end in Redis."""
        found = self._redis.mget([key for topic in topics for key in _keys(topic)[:2]])
        return {
            topic: Position((found[2 * at] or b"").decode(), int(found[2 * at + 1] or 0))
            for at, topic in enumerate(topics)
        }

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

    def _is_away(self, who: str, error: BaseException) -> None:
        """One of the two threads met a fault: after a moment of that, subscribers are told."""
        now = monotonic()
        with self._adopting:
            self._away.add(who)
            if self._told or now - self._fine_at[who] < self._limits.history.store_patience:
                return
            self._told = True
            topics = list(self._topics.values())
        logger.error("Redis is away (%s): events wait, and subscribers are told", error)
        text = "the event store is away"
        assert self._hub is not None
        for topic in topics:
            topic.unavailable = topic.unavailable or text
            self._hub.end_all(
                topic, EndOfStream(JsonRpcCode.SERVER_BUSY, f"Server busy: {text}", {"retry_after_ms": 1000})
            )

    def _is_fine(self, who: str) -> None:
        """One of the two threads has done something; when both have, subscribers may come again."""
        with self._adopting:
            self._fine_at[who] = monotonic()
            self._away.discard(who)
            if not self._told or self._away:
                return
            self._told = False
            for topic in self._topics.values():
                if not topic.unavailable.startswith("the history"):
                    topic.unavailable = ""
        logger.warning("Redis is back; %d events wait to be written", len(self._backlog))


def _keys(topic: Topic) -> tuple[str, str, str]:
    """The keys of a topic: epoch, head and stream."""
    return tuple(f"{_PREFIX}{topic.name}:{kind}" for kind in ("epoch", "head", "stream"))  # type: ignore[return-value]


def _seq(id: bytes) -> int:
    return int(id.partition(b"-")[0])
