"""Keep the logs in a SQLite file, so that they survive a restart and a crash of the process.

One thread numbers the events and commits them in batches; after the commit they are appended to the logs. So no client
sees an event that a crash of the process could undo, and no number is used twice in one epoch. A crash of the machine may
undo commits, since the file is not synced for each of them: the file contains the boot in which it was written, and in
another boot all logs start new epochs, unless the file was closed properly.

If the file cannot be used, events are kept in memory, under new epochs: the file then contains only events that clients
have seen under the epochs in it. It is tried again from time to time. When it can be used, what the logs in memory have
replaces what it had.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence

from ..config.limits import Limits
from ..errors import ConfigError
from ..events.election import Leadership, SoleLeader
from ..events.hub import USER_PREFIX
from ..events.store import LogWriter, StoreStatus
from ..events.topic import Topic
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only, requires
from .session_mark import invalidate
from .sqlite_faults import fault_of
from .sqlite_file import SqliteFile, StoredLog
from .store_fault import StoreFault
from .write_queue import QueuedEvent, WriteQueue

__all__ = ["SqliteStore"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 500
_RETURN_PATIENCE = 0.05
"""Seconds to wait for another program that has locked the file, while events are delivered from memory."""


class SqliteStore:
    """Implements `EventStore`.

    Args:
        path: the file; it is created if it does not exist.
        limits: bounds of the events that wait to be written, and when the file is tried again.
        is_required: whether a start fails if the file cannot be used.
    """

    def __init__(self, path: str, limits: Limits, is_required: bool = False) -> None:
        self._path = os.path.abspath(path)  # the host may change its directory
        self._limits = limits
        self._is_required = is_required
        self._queue = WriteQueue(limits)
        self._lock = threading.Lock()  # guards `_topics` and `_stored`
        self._topics: dict[str, Topic] = {}
        self._stored: dict[str, StoredLog] = {}  # read, and not attached to a topic yet
        self._heads: dict[str, int] = {}
        self._writer: LogWriter | None = None
        self._file: SqliteFile | None = None  # None while events are kept in memory
        self._fault: StoreFault | None = None
        self._damaged = 0
        self._try_at = 0.0
        self._look_at = 0.0
        self._thread: threading.Thread | None = None
        self._stop_by: Deadline | None = None
        self._detached: deque[str] = deque()
        self._lost: dict[Topic, None] = {}  # have lost events, and must start new epochs before anything else

    @property
    def status(self) -> StoreStatus:
        """See `EventStore`."""
        fault = self._fault
        return StoreStatus("sqlite", "" if fault is None else fault.kind.value, str(fault or ""), self._damaged)

    @owner_only
    def start(self, writer: LogWriter) -> None:
        """Open the file and load the logs."""
        if self._thread is not None:
            raise ConfigError(f"rpcwebsocketeventstore: {self._path} is still being closed by the last run")
        self._writer = writer
        self._stop_by = None
        self._fault = None
        with self._lock:
            topics = list(self._topics.values())
        try:
            self._open()
            for topic in topics:
                self._load_at_start(topic)
        except StoreFault as fault:
            if self._is_required:
                self._close(clean=False)
                raise ConfigError(f"rpcwebsocketeventstore: {self._path} can't be used: {fault}") from None
            self._fail(fault)
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-sqlite", daemon=True)
        self._thread.start()

    @owner_only
    def stop(self, deadline: Deadline) -> None:
        """Write what is queued, and close the file."""
        thread = self._thread
        if thread is None:
            return
        self._stop_by = deadline
        self._queue.wake()
        thread.join(deadline.remaining() + 1.0)
        if thread.is_alive():
            logger.error("%s does not answer; its thread is left", self._path)
        else:
            self._thread = None
        if len(self._queue):
            logger.error("%s did not take all events before the end: %d are left", self._path, len(self._queue))

    @any_thread
    def attach(self, topic: Topic) -> None:
        """Load the log of a new topic."""
        with self._lock:
            self._topics[topic.name] = topic
            self._load(topic)

    @any_thread
    def detach(self, topic: Topic) -> None:
        """Delete the stored log of a topic."""
        with self._lock:
            if self._topics.get(topic.name) is topic:
                del self._topics[topic.name]
            self._stored.pop(topic.name, None)
        self._detached.append(topic.name)
        self._queue.wake()

    @any_thread
    def forget(self, topic: Topic) -> None:
        """Delete the stored log of a topic."""
        self.detach(topic)

    @any_thread
    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Queue an event."""
        self._queue.put(topic, data)

    @any_thread
    def start_new_epoch(self, topic: Topic, term: int = 0) -> None:
        """Queue a new epoch."""
        self._queue.put(topic, None)

    @any_thread
    def lead(self, topics: Sequence[Topic]) -> Leadership:
        """Return that this server leads: no other one can use the file."""
        return SoleLeader()

    # Opening

    def _open(self) -> None:
        """Open the file and read what it contains. Raise StoreFault if that is impossible."""
        file = SqliteFile(self._path)
        for name in list(self._detached):  # while the file was closed
            file.logs.pop(name, None)
        self._look_at = monotonic() + self._limits.history.store_retry
        self._damaged += file.damaged
        try:
            file.forget_old(
                USER_PREFIX, time.time() - self._limits.history.history_age, self._limits.events.user_topics
            )
        except sqlite3.Error as error:
            file.close(clean=False)
            raise fault_of(error) from None
        with self._lock:
            self._stored = dict(file.logs)
        self._heads = {name: log.head for name, log in file.logs.items()}
        self._file = file

    @requires("_lock")
    def _load(self, topic: Topic) -> bool:
        """Load the log of a topic with what the file contains of it, once. Return whether it contained something."""
        stored = self._stored.pop(topic.name, None)
        if stored is not None:
            topic.log.load(stored.epoch, stored.head, stored.entries)
        return stored is not None

    def _load_at_start(self, topic: Topic) -> None:
        """Load the log of a topic, or write its epoch to the file."""
        with self._lock:
            is_stored = self._load(topic)
        if is_stored:
            return
        if topic.log.position.seq:  # of an earlier run, whose file cannot be used any more
            topic.log.start_new_epoch(secrets.token_hex(8))
        assert self._file is not None
        try:
            with self._file.transaction():
                self._write_topic(self._file, topic)
        except sqlite3.Error as error:
            raise fault_of(error) from None

    # Writing

    def _run(self) -> None:
        while True:
            due = self._look_at if self._fault is None else self._try_at
            self._queue.wait(max(0.0, due - monotonic()))
            try:
                self._write_all()
            except sqlite3.Error as error:
                self._fail(fault_of(error))
            except Exception as error:
                logger.exception("a step of the event store failed")
                self._fail(fault_of(error))
            if self._stop_by is not None:
                self._end()
                return
            try:
                self._look()
            except StoreFault as fault:
                self._fail(fault)
            except Exception as error:
                logger.exception("a step of the event store failed")
                self._fail(fault_of(error))

    def _look(self) -> None:
        """Try to return to the file, or look whether it is still in its place, if that is due."""
        now = monotonic()
        if self._fault is not None and now >= self._try_at:
            self._return_to_file()
        elif self._file is not None and now >= self._look_at:
            self._look_at = now + self._limits.history.store_retry
            self._file.check_place()

    def _end(self) -> None:
        """Close the file, also one that can be used again. Logs whose events are left in the queue start new epochs."""
        try:
            if self._fault is not None:
                self._return_to_file()
            for topic in self._queue.topics() if self._file is not None else ():
                self._start_new_epoch(topic)
        except Exception:
            logger.exception("the file can't be closed in order")
            file, self._file = self._file, None
            if file is not None:
                file.give_up()
        self._close()

    def _write_all(self) -> None:
        for topic in list(self._lost):
            self._end_lost(topic)
        while (events := self._queue.next_events(_BATCH)) or self._queue.next_epoch():
            if not events:
                epoch = self._queue.next_epoch()
                assert epoch is not None
                self._start_new_epoch(epoch.topic)
                self._queue.remove(1)
                continue
            if self._stop_by is not None and self._stop_by.expired:
                return
            self._delete_detached()
            numbers = [None] * len(events) if self._file is None else self._store(self._file, events)
            self._queue.remove(len(events))
            self._deliver(events, numbers)
        self._delete_detached()
        for loss in self._queue.losses():
            self._lost[loss.topic] = None
            self._queue.acknowledge(loss.topic)  # what is published from now on follows the new epoch
            self._end_lost(loss.topic)

    def _end_lost(self, topic: Topic) -> None:
        """Start a new epoch of a topic that has lost events, before any other event of it is written."""
        self._start_new_epoch(topic)
        del self._lost[topic]

    def _deliver(self, events: Sequence[QueuedEvent], numbers: Sequence[int | None]) -> None:
        """Append events to the logs. A log that does not take one has lost it, and starts a new epoch."""
        assert self._writer is not None
        for event, seq in zip(events, numbers, strict=True):
            if event.topic in self._lost:
                continue
            try:
                self._writer.append(event.topic, event.data, seq)
            except Exception:
                logger.exception("an event of %s is lost", event.topic.name)
                self._lost[event.topic] = None
        for topic in list(self._lost):
            self._end_lost(topic)

    def _store(self, file: SqliteFile, events: Sequence[QueuedEvent]) -> list[int | None]:
        """Write events in one transaction. Return their numbers, and None for one of a topic that was dropped."""
        heads = dict(self._heads)
        try:
            with file.transaction():
                numbers = [self._insert(file, event.topic, event.data) for event in events]
                for topic in {event.topic for event, seq in zip(events, numbers, strict=True) if seq is not None}:
                    file.save_topic(topic.name, topic.log.position.epoch, self._heads[topic.name], topic.log.first)
        except BaseException:
            self._heads = heads
            raise
        return numbers

    def _insert(self, file: SqliteFile, topic: Topic, data: bytes) -> int | None:
        if self._topics.get(topic.name) is not topic:
            return None  # dropped in the meantime: it has no subscriber, and no client can find it
        seq = self._heads.get(topic.name, 0) + 1
        file.add_entry(topic.name, topic.log.position.epoch, seq, time.time(), data)
        self._heads[topic.name] = seq
        return seq

    def _write_topic(self, file: SqliteFile, topic: Topic) -> None:
        """Replace the log of a topic in the file by the one in memory, within a transaction."""
        (epoch, head), entries = topic.log.snapshot()
        now = time.time()
        file.delete_topic(topic.name)
        for entry in entries:
            file.add_entry(topic.name, epoch, entry.seq, now - entry.age, entry.data)
        file.save_topic(topic.name, epoch, head, head + 1 - len(entries))
        self._heads[topic.name] = head

    def _delete_detached(self) -> None:
        """Delete dropped topics, before one of the same name gets its first event."""
        while self._detached:
            name = self._detached.popleft()
            self._heads.pop(name, None)
            if self._file is not None:
                self._file.delete_topic(name)

    def _start_new_epoch(self, topic: Topic, *, is_whole: bool = False) -> None:
        """Start a new epoch of a topic, in the file and in memory, so that its readers learn of a loss.

        Args:
            topic: the topic.
            is_whole: whether nothing was lost: what is published next follows what the log has.
        """
        epoch = secrets.token_hex(8)
        if self._file is not None and self._topics.get(topic.name) is topic:  # another one may have its name by now
            with self._file.transaction():
                self._file.delete_topic(topic.name)
                self._file.save_topic(topic.name, epoch, 0, 1)
            self._heads[topic.name] = 0
        topic.log.start_new_epoch(epoch, is_whole=is_whole)
        assert self._writer is not None
        self._writer.announce(topic)

    # Without the file

    def _fail(self, fault: StoreFault) -> None:
        """Continue in memory: the file cannot be used."""
        file, self._file = self._file, None
        if file is not None:
            file.give_up()
        else:
            invalidate(self._path)
        retry = self._limits.history.store_retry
        self._fault, self._try_at, self._heads = fault, monotonic() + retry, {}
        text = "%s can't be used (%s): %s; events are kept in memory only, and it is tried again every %g s (%s)"
        logger.error(text, self._path, fault.kind.value, fault, retry, "rpcwebsocketstoreretry")
        with self._lock:
            topics = list(self._topics.values())
            self._stored = {}  # what the file has of other topics has ended, too
        for topic in topics:
            self._start_new_epoch(topic, is_whole=topic not in self._lost)
        self._lost.clear()
        try:
            self._write_all()
        except Exception:
            logger.exception("events could not be delivered")

    def _return_to_file(self) -> None:
        """Use the file again, if that is possible now."""
        self._try_at = monotonic() + self._limits.history.store_retry
        try:
            file = SqliteFile(self._path, patience=_RETURN_PATIENCE, is_obsolete=True)
        except StoreFault as fault:
            if self._fault is None or fault.kind is not self._fault.kind:
                logger.error("%s still can't be used (%s): %s", self._path, fault.kind.value, fault)
            self._fault = fault
            return
        self._damaged += file.damaged
        with self._lock:
            topics = list(self._topics.values())
        try:
            with file.transaction():  # all or nothing, since memory goes on under the same epochs if this fails
                file.clear()
                for topic in topics:
                    self._write_topic(file, topic)
            file.begin()
        except (sqlite3.Error, OSError) as error:
            file.give_up()
            self._heads = {}
            self._fault = fault_of(error)
            return
        self._look_at = monotonic() + self._limits.history.store_retry
        self._file, self._fault = file, None
        logger.warning("%s can be used again: events are kept in it", self._path)

    def _close(self, clean: bool = True) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close(clean)
