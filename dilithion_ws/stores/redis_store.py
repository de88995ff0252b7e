"""Keep the logs in Redis Streams. Several servers publish to them and read them, so a client may reconnect to any.

Redis numbers the events, in a script that is executed atomically, and every server delivers what it reads back, its own
events included. So all servers have the same order. One thread writes and another reads. While Redis is unreachable,
events wait in a bounded queue; after a grace period, subscriptions end with an error, and new ones are refused. A write
whose answer was lost is repeated; the script recognises it by the writer's count.

Each topic has three keys: its epoch, its head (the last number) and the stream of entries. If one of the first two is
missing, or the head is lower than before, Redis has lost data: then a new epoch starts, and all readers learn of it. What
is read back, and what is wrong with it, is the matter of `RedisReader`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any

import redis

from ..config.limits import Limits
from ..errors import ConfigError, JsonRpcCode, NotLeadingError
from ..events.cursor import EndOfStream
from ..events.election import Leadership
from ..events.store import LogWriter, StoreStatus
from ..events.topic import Availability, Topic
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only
from .checksums import checksum
from .lease import Lease
from .redis_endpoint import FAULTS, RedisEndpoint
from .redis_faults import kind_of
from .redis_reader import RedisReader, life_of
from .redis_scripts import NOT_KEPT, PUBLISH
from .store_fault import StoreFault, StoreFaultKind
from .write_queue import QueuedEvent, WriteQueue

__all__ = ["RedisStore"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 200
_RETRY_SECONDS = 0.2
_PERMANENT_RETRY_SECONDS = 2.0
"""The pause after an error that will be the same the next time, until a person has changed something."""
_PATIENCE = 1.5
_WRITER_KEPT = 86_400
"""Seconds for which Redis keeps the counts of writers."""


class RedisStore:
    """Implements `EventStore`.

    Args:
        url: where Redis is; see `redis_endpoint`.
        limits: bounds of the events that wait, and the grace period while Redis is unreachable.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._limits = limits
        self._endpoint = RedisEndpoint(url, _PATIENCE)
        self._reader = RedisReader(self._endpoint)
        self._queue = WriteQueue(limits)
        self._writer_name = secrets.token_hex(8)
        self._write_count = 0
        self._lost: dict[Topic, str] = {}  # have lost events, with the fencing token; only the writer uses it
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

    @property
    def status(self) -> StoreStatus:
        """See `EventStore`."""
        with self._lock:
            fault = self._fault if self._unreachable_for else None
        return StoreStatus("redis", "" if fault is None else fault.kind.value, str(fault or ""), self._reader.damaged)

    @owner_only
    def start(self, writer: LogWriter) -> None:
        """Start to read and write. Redis may be unreachable."""
        self._log_writer = writer
        self._reader.start(writer)
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
    def forget(self, topic: Topic) -> None:
        """Delete what Redis has of a topic, after what is queued, and stop to read it."""
        self._queue.put(topic, None)
        self.detach(topic)

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
                self._on_fault(name, StoreFault(kind_of(error), str(error)))
            except Exception as error:
                logger.exception("a step of the event store failed")
                self._on_fault(name, StoreFault(StoreFaultKind.OTHER, str(error)))

    def _on_fault(self, thread: str, fault: StoreFault) -> None:
        """Record that a step of a thread has failed, and wait until it is tried again."""
        self._endpoint.on_fault()
        self._reader.on_fault()
        self._on_unreachable(thread, fault)
        self._stopped.wait(_RETRY_SECONDS if fault.kind is StoreFaultKind.AWAY else _PERMANENT_RETRY_SECONDS)

    # Writing

    def _write(self) -> None:
        self._queue.wait(0 if self._lost else None)
        self._reader.look_at_redis()
        for topic in list(self._lost):
            self._end_lost(topic)
        while not self._stopped.is_set():
            events = self._queue.next_events(_BATCH)
            if not events:
                epoch = self._queue.next_epoch()
                if epoch is None:
                    break
                self._replace_epoch(epoch.topic, epoch.token)
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
                self._on_refused(events[stored], results[stored])
        for loss in self._queue.losses():
            self._lost[loss.topic] = loss.token
            self._queue.acknowledge(loss.topic)  # what is published from now on follows the new epoch
            self._end_lost(loss.topic)
        self._on_reachable("writer")

    def _end_lost(self, topic: Topic) -> None:
        """Start a new epoch of a topic that has lost events, before any other event of it is written."""
        self._replace_epoch(topic, self._lost[topic])
        del self._lost[topic]

    def _on_refused(self, event: QueuedEvent, error: Exception) -> None:
        """Look why an event was not stored. Raise the error if that is a fault of Redis as a whole."""
        text = str(error)
        if "WRONGTYPE" in text:
            logger.error("Redis has keys of another kind in place of %s: its log starts a new epoch", event.topic.name)
            self._reader.replace_epoch(event.topic, "")
        elif NOT_KEPT in text:
            # It is an older copy, without the last events of this server, some of which it may not have read back.
            logger.error("Redis has lost events of this server: all logs that it writes start new epochs")
            self._writer_name, self._write_count = secrets.token_hex(8), 0
            with self._lock:
                topics = list(self._topics.values())
            self._lost = {topic: "" for topic in topics if self._lease is None or topic not in self._lease.topics}
            if self._lease is not None and (token := self._lease.token(self._lease.term)):
                self._lost |= dict.fromkeys(self._lease.topics, token)
            for topic in list(self._lost):
                self._end_lost(topic)
        else:
            raise error

    def _add(self, pipeline: Any, event: QueuedEvent, count: int, *, is_first: bool) -> None:
        """Add the script that stores an event to a pipeline. `count` is the writer's own number of it."""
        topic = event.topic
        (epoch, seq), retention = topic.log.position, topic.log.retention
        pipeline.eval(
            PUBLISH,
            5,
            *self._reader.keys(topic),
            self._name("writer", self._writer_name),
            self._lease_key,
            secrets.token_hex(8),
            count,
            _WRITER_KEPT,
            2 * retention.entries,
            event.data,
            topic.log.first,
            epoch,
            seq,
            int(is_first),
            life_of(topic),
            event.token,
            checksum(topic.name, event.data),
            self._reader.run or "",
            int(self._reader.is_durable),
        )

    @property
    def _lease_key(self) -> str:
        """The key of the lease. Without one it is a key that never exists, since a user may have rights on ours alone."""
        return self._name("leader", "") if self._lease is None else self._lease.key

    def _replace_epoch(self, topic: Topic, token: str) -> None:
        """Start a new epoch of a topic in Redis, unless another server does so now."""
        try:
            epoch = self._endpoint.client.get(self._reader.keys(topic).epoch)
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            epoch = ""  # any
        self._reader.replace_epoch(topic, epoch or "", self._lease_key, token)

    def _name(self, *parts: str) -> str:
        """Return the name of a key."""
        return self._endpoint.prefix + ":".join(parts)

    # Reading

    def _read(self) -> None:
        with self._lock:
            topics = list(self._topics.values())
        self._reader.check_all(topics)
        if self._lease is not None:
            self._lease.step(self._endpoint.client, self._reader)
        self._reader.read_new(topics)
        self._on_reachable("reader")

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
