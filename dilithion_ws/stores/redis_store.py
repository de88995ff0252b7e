"""Keep the logs in Redis Streams. Several servers publish to them and read them, so a client may reconnect to any.

Redis numbers the events, in a script that is executed atomically, and every server delivers what it reads back, its own
events included. So all servers have the same order. One thread writes and another reads. While Redis is unreachable,
events wait in a bounded queue; after a grace period, subscriptions end with an error, and new ones are refused. A write
whose answer was lost is repeated; the script recognises it by the writer's count.

Each topic has three keys: its epoch, its head (the last number) and the stream of entries. If the epoch is missing, or
the head is lower than before, Redis has lost data: then a new epoch starts, and all readers learn of it.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..config.limits import Limits
from ..errors import ConfigError, JsonRpcCode, NotLeadingError
from ..events.cursor import EndOfStream
from ..events.election import Leadership
from ..events.hub import USER_PREFIX
from ..events.log import StoredEntry
from ..events.store import LogWriter, StoreStatus
from ..events.topic import Availability, Topic
from ..util.clock import Deadline, monotonic
from ..util.position import Position
from ..util.thread_contracts import any_thread, owner_only
from .checksums import checksum
from .lease import Lease
from .redis_endpoint import FAULTS, RedisEndpoint
from .redis_faults import kind_of
from .redis_scripts import PUBLISH, REPLACE_EPOCH
from .store_fault import StoreFault, StoreFaultKind
from .write_queue import QueuedEvent, WriteQueue

__all__ = ["RedisStore"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 200
_PAGE = 1000
"""Entries that are read at a time while a log is loaded."""
_BLOCK_MS = 200
_RETRY_SECONDS = 0.2
_PERMANENT_RETRY_SECONDS = 2.0
"""The pause after an error that will be the same the next time, until a person has changed something."""
_PATIENCE = 1.5
_WRITER_KEPT = 86_400
_USER_KEPT = 3600
"""Seconds for which Redis keeps the counts of writers, and topics of users beyond the age of their events."""


class _Keys(NamedTuple):
    """The keys of a topic."""

    epoch: str
    head: str
    stream: str


class _Head(NamedTuple):
    """Where a log ends in Redis. The epoch is None if Redis does not know the topic."""

    epoch: str | None
    seq: int


class RedisStore:
    """Implements `EventStore`.

    Args:
        url: where Redis is; see `redis_endpoint`.
        limits: bounds of the events that wait, and the grace period while Redis is unreachable.

    Attributes:
        damaged: how many stored events were not as they had been written.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._endpoint = RedisEndpoint(url, _PATIENCE)
        self._queue = WriteQueue(limits)
        self._writer_name = secrets.token_hex(8)
        self._write_count = 0
        self._lock = threading.Lock()  # guards `_topics` and the state of the connection
        self._topics: dict[str, Topic] = {}
        self._log_writer: LogWriter | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._unreachable_for: set[str] = set()  # names of the threads whose last step failed
        self._reached_at = {"reader": 0.0, "writer": 0.0}
        self._is_reported = False
        self._lease: Lease | None = None
        self._fault: StoreFault | None = None  # of the last step that has failed
        self.damaged = 0

    @property
    def status(self) -> StoreStatus:
        """See `EventStore`."""
        with self._lock:
            fault = self._fault if self._unreachable_for else None
        return StoreStatus("redis", "" if fault is None else fault.kind.value, str(fault or ""), self.damaged)

    @owner_only
    def start(self, writer: LogWriter) -> None:
        """Start to read and write. Redis may be unreachable."""
        self._log_writer = writer
        self._stopped.clear()
        if self._lease is not None:
            self._lease.resume()
        self._reached_at = dict.fromkeys(self._reached_at, monotonic())
        self._threads = [
            threading.Thread(target=self._run, args=(name, step), name=f"dilithion-ws-redis-{name}", daemon=True)
            for name, step in (("reader", self._read), ("writer", self._write))
        ]
        for thread in self._threads:
            thread.start()

    @owner_only
    def stop(self, deadline: Deadline) -> None:
        """Write what is queued, and stop."""
        while self._threads and len(self._queue) and not self._unreachable_for and not deadline.expired:
            self._stopped.wait(0.01)
        self._stopped.set()
        self._queue.wake()
        for thread in self._threads:
            thread.join(max(0.5, deadline.remaining()))
        if self._threads and len(self._queue):
            logger.error("Redis did not take all events before the end: %d are lost", len(self._queue))
        self._threads = []
        if self._lease is not None:
            with contextlib.suppress(*FAULTS):
                self._lease.resign(self._endpoint.client)
        self._endpoint.close()

    @any_thread
    def attach(self, topic: Topic) -> None:
        """Load the log of a new topic soon. It cannot be subscribed to until then."""
        topic.availability = Availability.LOADING
        with self._lock:
            self._topics[topic.name] = topic

    @any_thread
    def detach(self, topic: Topic) -> None:
        """Stop to read a topic. Redis keeps it for other servers, until it expires."""
        with self._lock:
            if self._topics.get(topic.name) is topic:
                del self._topics[topic.name]

    @any_thread
    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Queue an event. An event of a topic that another server leads is dropped."""
        self._put(topic, data, term)

    @any_thread
    def start_new_epoch(self, topic: Topic, term: int = 0) -> None:
        """Queue a new epoch. One of a topic that another server leads is dropped."""
        self._put(topic, None, term)

    def _put(self, topic: Topic, data: bytes | None, term: int) -> None:
        lease = self._lease
        if lease is None or topic not in lease.topics:
            self._queue.put(topic, data)
            return
        token = lease.token(term or lease.term)
        if token:
            self._queue.put(topic, data, token)
        elif term:
            raise NotLeadingError(f"term {term} of publishing to {topic.name} is over")

    @any_thread
    def lead(self, topics: Sequence[Topic]) -> Leadership:
        """Take part in the election of a leader for some topics. Call it once for each store."""
        if self._lease is not None:
            raise ConfigError("this server tries to lead already")
        names = ",".join(sorted(topic.name for topic in topics))
        self._lease = Lease(
            self._name("leader", names), topics, self._writer_name, self._limits.history.leader_patience
        )
        return self._lease

    def _run(self, name: str, step: Callable[[], None]) -> None:
        while not self._stopped.is_set():
            try:
                step()
            except FAULTS as error:
                logger.debug("Redis: %s", error)
                self._endpoint.on_fault()
                fault = StoreFault(kind_of(error), str(error))
                self._on_unreachable(name, fault)
                self._stopped.wait(_RETRY_SECONDS if fault.kind is StoreFaultKind.AWAY else _PERMANENT_RETRY_SECONDS)
            except Exception:
                logger.exception("a step of the event store failed; going on")
                self._stopped.wait(_RETRY_SECONDS)

    # Writing

    def _write(self) -> None:
        self._queue.wait(None)
        while not self._stopped.is_set():
            events = self._queue.next_events(_BATCH)
            if not events:
                epoch = self._queue.next_epoch()
                if epoch is None:
                    break
                self._replace_epoch(epoch.topic, self._endpoint.client.get(self._keys(epoch.topic).epoch), epoch.token)
                self._queue.remove(1)
                continue
            pipeline = self._endpoint.client.pipeline(transaction=False)
            for number, event in enumerate(events, 1):
                self._add(pipeline, event, self._write_count + number, is_first=number == 1)
            results = pipeline.execute(raise_on_error=False)
            failures = [index for index, result in enumerate(results) if isinstance(result, Exception)]
            stored = failures[0] if failures else len(events)
            self._write_count += stored
            self._queue.remove(stored)
            if failures:
                raise results[stored]
        for loss in self._queue.losses():
            self._replace_epoch(loss.topic, self._endpoint.client.get(self._keys(loss.topic).epoch), loss.token)
            self._queue.acknowledge(loss.topic)
        self._on_reachable("writer")

    def _add(self, pipeline: Any, event: QueuedEvent, count: int, *, is_first: bool) -> None:
        """Add the script that stores an event to a pipeline. `count` is the writer's own number of it."""
        topic = event.topic
        (epoch, seq), retention = topic.log.position, topic.log.retention
        life = int(retention.seconds) + _USER_KEPT if topic.name.startswith(USER_PREFIX) else 0
        pipeline.eval(
            PUBLISH,
            5,
            *self._keys(topic),
            self._name("writer", self._writer_name),
            self._lease_key,
            secrets.token_hex(8),
            count,
            _WRITER_KEPT,
            2 * retention.entries,
            int(time.time() * 1000),
            event.data,
            topic.log.first,
            epoch,
            seq,
            int(is_first),
            life,
            event.token,
            checksum(topic.name, event.data),
        )

    @property
    def _lease_key(self) -> str:
        """The key of the lease. Without one it is a key that never exists, since a user may have rights on ours alone."""
        return self._name("leader", "") if self._lease is None else self._lease.key

    def _replace_epoch(self, topic: Topic, epoch: bytes | None, token: str = "") -> None:
        """Start a new epoch in Redis, unless another server has done so since this epoch was read."""
        if epoch is not None:
            self._endpoint.client.eval(
                REPLACE_EPOCH, 4, *self._keys(topic), self._lease_key, secrets.token_hex(8), epoch, token
            )

    def _name(self, *parts: str) -> str:
        """Return the name of a key."""
        return self._endpoint.prefix + ":".join(parts)

    def _keys(self, topic: Topic) -> _Keys:
        """Return the keys of a topic."""
        return _Keys(*(self._name(topic.name, kind) for kind in ("epoch", "head", "stream")))

    # Reading

    def _read(self) -> None:
        with self._lock:
            topics = {self._keys(topic).stream: topic for topic in self._topics.values()}
        for topic, position in self._read_heads(list(topics.values())).items():
            self._check(topic, position)
        self._on_reachable("reader")
        if self._lease is not None:
            self._lease.step(self._endpoint.client, self)
        positions = {key: f"{topic.log.position.seq}-0" for key, topic in topics.items()}
        for key, rows in self._endpoint.client.xread(positions, count=_BATCH, block=_BLOCK_MS):
            self._append(topics[key.decode()], rows)

    @any_thread
    def read_positions(self, topics: Sequence[Topic]) -> dict[Topic, Position]:
        """Return where the logs of topics end in Redis. The epoch is "" if Redis does not know a topic."""
        return {topic: Position(head.epoch or "", head.seq) for topic, head in self._read_heads(topics).items()}

    def _read_heads(self, topics: Sequence[Topic]) -> dict[Topic, _Head]:
        """Read epochs and heads by one command, so that each pair belongs together."""
        found = self._endpoint.client.mget([key for topic in topics for key in self._keys(topic)[:2]])
        return {
            topic: _Head(None if epoch is None else epoch.decode(), int(head or 0))
            for topic, epoch, head in zip(topics, found[::2], found[1::2], strict=True)
        }

    def _check(self, topic: Topic, stored: _Head) -> None:
        """Compare a topic's log with the one in Redis, and load it if they are not the same."""
        epoch, seq = topic.log.position
        has_lost_events = stored.epoch == epoch and stored.seq < seq
        if has_lost_events:
            logger.error("Redis has lost events of %s: its log starts a new epoch", topic.name)
            self._replace_epoch(topic, epoch.encode())
        elif topic.availability is not Availability.LOADING and stored.epoch != epoch:
            if stored.epoch is None:
                logger.error("Redis has lost the history of %s: its log starts a new epoch", topic.name)
            else:
                logger.warning("the log of %s has a new epoch in Redis", topic.name)
        if has_lost_events or stored.epoch != epoch or topic.availability is Availability.LOADING:
            self._load(topic)
            topic.availability = Availability.AVAILABLE

    def _load(self, topic: Topic) -> None:
        keys = self._keys(topic)
        self._endpoint.client.set(keys.epoch, secrets.token_hex(8), nx=True)
        rows: list[tuple[bytes, dict[bytes, bytes]]] = []
        while True:
            pipeline = self._endpoint.client.pipeline(transaction=True)
            pipeline.get(keys.epoch)
            pipeline.get(keys.head)
            pipeline.xrange(keys.stream, min=f"({rows[-1][0].decode()}" if rows else "-", count=_PAGE)
            epoch, head, page = pipeline.execute()
            rows += page
            if len(page) < _PAGE:
                break
        now = time.time()
        entries = [
            StoredEntry(_seq(id), fields[b"d"], max(0.0, now - int(fields[b"t"]) / 1000))
            for id, fields in rows
            if fields[b"e"] == epoch and self._is_whole(topic, id, fields)
        ]
        topic.log.load(epoch.decode(), int(head or 0), entries)
        assert self._log_writer is not None
        self._log_writer.announce(topic)

    def _append(self, topic: Topic, rows: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        assert self._log_writer is not None
        for id, fields in rows:
            epoch, seq = topic.log.position
            if fields[b"e"].decode() != epoch or _seq(id) <= seq:
                return  # of another epoch, which the next `_check` notices
            if not self._is_whole(topic, id, fields):
                continue  # the next one is then after a gap, which no reader crosses
            self._log_writer.append(topic, fields[b"d"], _seq(id))

    def _is_whole(self, topic: Topic, id: bytes, fields: dict[bytes, bytes]) -> bool:
        """Return whether an entry is as it was written. Servers before 0.2 wrote no checksum."""
        found = fields.get(b"c")
        if found is None or found == checksum(topic.name, fields.get(b"d", b"")).encode():
            return True
        self.damaged += 1
        logger.error("the event %s of %s in Redis is damaged: it is left out", id.decode(), topic.name)
        return False

    # Outages

    def _on_unreachable(self, thread: str, fault: StoreFault) -> None:
        """Record that a step of a thread has failed. After the grace period, end all subscriptions by an error."""
        now = monotonic()
        with self._lock:
            self._unreachable_for.add(thread)
            self._fault = fault
            if self._is_reported or now - self._reached_at[thread] < self._limits.history.store_unavailable_grace:
                return
            self._is_reported = True
            topics = list(self._topics.values())
        what = "is unreachable" if fault.kind is StoreFaultKind.AWAY else f"can't be used ({fault.kind.value})"
        logger.error("Redis %s: %s; events wait, and subscriptions end", what, fault)
        text = Availability.STORE_UNREACHABLE.value
        assert self._log_writer is not None
        for topic in topics:
            if topic.availability is Availability.AVAILABLE:
                topic.availability = Availability.STORE_UNREACHABLE
            self._log_writer.end_all(
                topic, EndOfStream(JsonRpcCode.SERVER_BUSY, f"Server busy: {text}", {"retry_after_ms": 1000})
            )

    def _on_reachable(self, thread: str) -> None:
        """Record that a step of a thread has succeeded. When both threads have, topics can be subscribed to again."""
        with self._lock:
            self._reached_at[thread] = monotonic()
            self._unreachable_for.discard(thread)
            if not self._is_reported or self._unreachable_for:
                return
            self._is_reported = False
            for topic in self._topics.values():
                if topic.availability is Availability.STORE_UNREACHABLE:
                    topic.availability = Availability.AVAILABLE
        logger.warning("Redis is reachable again; %d events wait to be written", len(self._queue))


def _seq(id: bytes) -> int:
    return int(id.partition(b"-")[0])
