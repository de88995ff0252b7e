"""Keep the logs in a SQLite file, so that they survive a restart and a crash of the process.

One thread numbers the events and commits them in batches; after the commit they are appended to the logs. So no client
sees an event that a crash of the process could undo, and no number is used twice in one epoch. A crash of the machine may
undo commits, since the file is not synced for each of them: the file contains the boot in which it was written, and in
another boot all logs start new epochs, unless the file was closed properly.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..config.limits import Limits
from ..errors import ConfigError
from ..events.election import Leadership, SoleLeader
from ..events.hub import USER_PREFIX
from ..events.log import StoredEntry
from ..events.store import LogWriter
from ..events.topic import Topic
from ..util.clock import Deadline
from ..util.files import open_private
from ..util.thread_contracts import any_thread, owner_only
from .write_queue import WriteQueue

__all__ = ["SqliteStore"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 500
_UNUSABLE = {3, 5, 6, 8, 13, 14, 23}
"""Primary result codes of SQLite for a file that cannot be used, but is not damaged: SQLITE_PERM, SQLITE_BUSY,
SQLITE_LOCKED, SQLITE_READONLY, SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_AUTH (https://sqlite.org/rescode.html)."""
_UNUSABLE_WORDS = ("locked", "unable to open", "readonly", "full", "permission")
"""Words in the messages of these errors, for Python 3.10, whose exceptions have no code."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entries (
        topic TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL, PRIMARY KEY (topic, seq)
    ) WITHOUT ROWID;
"""


class _StoredRow(NamedTuple):
    seq: int
    at: float
    data: bytes


class _StoredLog(NamedTuple):
    epoch: str
    head: int
    rows: list[_StoredRow]


class SqliteStore:
    """Implements `EventStore`.

    Args:
        path: the file; it is created if it does not exist.
        limits: bounds of the events that wait to be written.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._queue = WriteQueue(limits)
        self._lock = threading.Lock()  # guards `_topics`
        self._topics: dict[str, Topic] = {}
        self._stored: dict[str, _StoredLog] = {}  # read, and not attached to a topic yet
        self._heads: dict[str, int] = {}
        self._writer: LogWriter | None = None
        self._db: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._stop_by: Deadline | None = None
        self._detached: deque[str] = deque()

    @owner_only
    def start(self, writer: LogWriter) -> None:
        """Open the file and load the logs."""
        if self._thread is not None:
            raise ConfigError(f"rpcwebsocketeventstore: {self._path} is still being closed by the last run")
        self._writer = writer
        self._stop_by = None
        self._open()
        with self._lock:
            topics = list(self._topics.values())
        for topic in topics:
            self._load(topic, at_start=True)
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
        if self._db is not None:
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
        try:
            self._db = self._connect()
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if not _is_damage(error):
                raise ConfigError(f"rpcwebsocketeventstore: {self._path} can't be used: {error}") from None
            self._set_aside(error)
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(open_private(self._path, os.O_RDWR | os.O_CREAT))  # before SQLite makes one that others can read
        except OSError as error:
            raise ConfigError(f"rpcwebsocketeventstore: {self._path} can't be used: {error.strerror}") from None
        db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")  # two servers with one file would use numbers twice
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("BEGIN IMMEDIATE")
            db.execute("COMMIT")
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            db.executescript(_SCHEMA)
            meta = dict(db.execute("SELECT name, value FROM meta"))
            if meta and meta.get("clean") != "1" and meta.get("boot") != _boot():
                logger.warning("%s was not closed before the machine went down: its logs start new epochs", self._path)
                db.execute("DELETE FROM entries")
                db.execute("DELETE FROM topics")
            self._read(db)
            db.execute("REPLACE INTO meta VALUES ('boot', ?), ('clean', '0'), ('version', '1')", (_boot(),))
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        """Rename a damaged file, so that it can be examined, and a new one can be created."""
        aside = f"{self._path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._path + ending, aside + ending)
        logger.error("%s is damaged (%s): set aside as %s; all logs start new epochs", self._path, error, aside)

    def _read(self, db: sqlite3.Connection) -> None:
        rows = db.execute("SELECT name, epoch, head FROM topics")
        self._stored = {name: _StoredLog(epoch, head, []) for name, epoch, head in rows}
        self._heads = {name: log.head for name, log in self._stored.items()}
        oldest = time.time() - self._limits.history.history_age
        db.execute("DELETE FROM entries WHERE topic GLOB ? AND at < ?", (USER_PREFIX + "*", oldest))
        for name, seq, at, data in db.execute("SELECT topic, seq, at, data FROM entries ORDER BY topic, seq"):
            if name in self._stored:
                self._stored[name].rows.append(_StoredRow(int(seq), float(at), bytes(data)))
        users = [name for name, log in self._stored.items() if name.startswith(USER_PREFIX) and not log.rows]
        for name in users[self._limits.events.user_topics :]:
            db.execute("DELETE FROM topics WHERE name = ?", (name,))
            del self._stored[name], self._heads[name]

    def _load(self, topic: Topic, *, at_start: bool = False) -> None:
        """Load the log of a topic with what the file contains of it, once."""
        with self._lock:
            stored = self._stored.pop(topic.name, None)
        if stored is not None:
            now = time.time()
            entries = [StoredEntry(row.seq, row.data, max(0.0, now - row.at)) for row in stored.rows]
            topic.log.load(stored.epoch, stored.head, entries)
        elif at_start:
            if topic.log.position.seq:  # of an earlier run of the server, whose file does not exist any more
                topic.log.start_new_epoch(secrets.token_hex(8))
            assert self._db is not None
            self._db.execute("REPLACE INTO topics VALUES (?, ?, 0)", (topic.name, topic.log.position.epoch))

    # Writing

    def _run(self) -> None:
        while True:
            self._queue.wait(None)
            try:
                self._write_all()
            except Exception as error:
                self._fail(error)
            if self._stop_by is not None:
                self._close()
                return

    def _write_all(self) -> None:
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
            if self._db is None:
                numbers: list[int | None] = [None] * len(events)
            else:
                with self._transaction() as db:
                    numbers = [self._insert(db, event.topic, event.data) for event in events]
                    stored = {event.topic for event, seq in zip(events, numbers, strict=True) if seq is not None}
                    for topic in stored:
                        self._save_head(db, topic)
            self._queue.remove(len(events))
            for event, seq in zip(events, numbers, strict=True):
                assert self._writer is not None
                self._writer.append(event.topic, event.data, seq)
        self._delete_detached()
        for loss in self._queue.losses():
            self._start_new_epoch(loss.topic)
            self._queue.acknowledge(loss.topic)

    def _delete_detached(self) -> None:
        """Delete dropped topics, before one of the same name gets its first event."""
        while self._detached:
            name = self._detached.popleft()
            self._heads.pop(name, None)
            if self._db is not None:
                self._db.execute("DELETE FROM entries WHERE topic = ?", (name,))
                self._db.execute("DELETE FROM topics WHERE name = ?", (name,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None
        heads = dict(self._heads)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            self._heads = heads
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def _insert(self, db: sqlite3.Connection, topic: Topic, data: bytes) -> int | None:
        if self._topics.get(topic.name) is not topic:
            return None  # dropped in the meantime: it has no subscriber, and no client can find it
        seq = self._heads.get(topic.name, 0) + 1
        db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (topic.name, seq, time.time(), data))
        self._heads[topic.name] = seq
        return seq

    def _save_head(self, db: sqlite3.Connection, topic: Topic) -> None:
        epoch = topic.log.position.epoch
        db.execute("REPLACE INTO topics VALUES (?, ?, ?)", (topic.name, epoch, self._heads[topic.name]))
        db.execute("DELETE FROM entries WHERE topic = ? AND seq < ?", (topic.name, topic.log.first))

    def _start_new_epoch(self, topic: Topic) -> None:
        """Start a new epoch of a topic, in the file and in memory, so that its readers learn of a loss."""
        epoch = secrets.token_hex(8)
        if self._db is not None:
            with self._transaction() as db:
                db.execute("DELETE FROM entries WHERE topic = ?", (topic.name,))
                db.execute("REPLACE INTO topics VALUES (?, ?, 0)", (topic.name, epoch))
                self._heads[topic.name] = 0
        topic.log.start_new_epoch(epoch)
        assert self._writer is not None
        self._writer.announce(topic)

    def _fail(self, error: Exception) -> None:
        """Continue in memory after the file could not be written.

        All topics start new epochs. So the file, which may be used again after the next start, contains only events that
        clients have seen under the epochs in it.
        """
        logger.error("%s can't be written: %s; events are kept in memory only, until the next start", self._path, error)
        self._close(clean=False)
        with self._lock:
            topics = list(self._topics.values())
        for topic in topics:
            self._start_new_epoch(topic)
        try:
            self._write_all()
        except Exception:
            logger.exception("events could not be delivered")

    def _close(self, clean: bool = True) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                if clean:
                    db.execute("UPDATE meta SET value = '1' WHERE name = 'clean'")
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _is_damage(error: Exception) -> bool:
    """Return whether an error while opening a file means that its content is damaged."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return not any(word in str(error) for word in _UNUSABLE_WORDS)
    return code & 0xFF not in _UNUSABLE


def _boot() -> str:
    """Return the identifier of the present boot of the machine, or a random one if the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return secrets.token_hex(8)
