"""Logs in a SQLite file: they are there again after a restart, and after a crash.

A thread of its own numbers the events and commits them in batches; the hub gets them back after the commit. So no client
sees an event that a crash of the process could take back, and no number is given twice in one epoch. A crash of the
machine may take commits back (the file is not synced for each): the file knows the boot that it was written in, and
another boot begins new epochs, unless it was closed in order.
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
from collections.abc import Iterator

from ..config.limits import Limits
from ..errors import ConfigError
from ..events.election import Leadership, SoleLeader
from ..events.hub import USER_PREFIX, EventHub
from ..events.topic import Topic
from ..util.clock import Deadline
from .write_queue import WriteQueue

__all__ = ["SqliteStore"]

logger = logging.getLogger("dilithion_ws.events")

_BATCH = 500
_NOT_DAMAGED = ("locked", "unable to open", "readonly", "full", "permission")
"""Words in errors of SQLite that say that the file can't be used, but not that it is damaged."""
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entries (
        topic TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL, PRIMARY KEY (topic, seq)
    ) WITHOUT ROWID;
"""


class SqliteStore:
    """See above.

    Args:
        path: the file; made where there is none.
        limits: bounds of what waits to be kept.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._backlog = WriteQueue(limits)
        self._adopting = threading.Lock()  # guards `_topics`
        self._topics: dict[str, Topic] = {}
        self._loaded: dict[str, tuple[str, int, list[tuple[int, float, bytes]]]] = {}
        self._heads: dict[str, int] = {}
        self._hub: EventHub | None = None
        self._db: sqlite3.Connection | None = None
        self._thread: threading.Thread | None = None
        self._stop_by: Deadline | None = None
        self._forgotten: deque[str] = deque()

    def start(self, hub: EventHub) -> None:
        """Opens the file and fills the logs."""
        if self._thread is not None:
            raise ConfigError(f"rpcwebsocketeventstore: {self._path} is still being closed by the last run")
        self._hub = hub
        self._stop_by = None
        self._open()
        with self._adopting:
            topics = list(self._topics.values())
        for topic in topics:
            self._load(topic, at_start=True)
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-sqlite", daemon=True)
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Writes what waits, and closes the file."""
        thread = self._thread
        if thread is None:
            return
        self._stop_by = deadline
        self._backlog.ring()
        thread.join(deadline.remaining() + 1.0)
        if thread.is_alive():
            logger.error("%s does not answer; its thread is left", self._path)
        else:
            self._thread = None
        if len(self._backlog):
            logger.error("%s did not take all events before the end: %d are left", self._path, len(self._backlog))

    def adopt(self, topic: Topic) -> None:
        """Fills the log of a new topic with what the file has of it."""
        with self._adopting:
            self._topics[topic.name] = topic
        if self._db is not None:
            self._load(topic)

    def forget(self, topic: Topic) -> None:
        """Has what the file has of a topic deleted."""
        with self._adopting:
            if self._topics.get(topic.name) is topic:
                del self._topics[topic.name]
            self._loaded.pop(topic.name, None)
        self._forgotten.append(topic.name)
        self._backlog.ring()

    def publish(self, topic: Topic, data: bytes, term: int = 0) -> None:
        """Has an event written."""
        self._backlog.put(topic, data)

    def begin_anew(self, topic: Topic, term: int = 0) -> None:
        """Has a new epoch written."""
        self._backlog.put(topic, None)

    def lead(self, topics: list[Topic]) -> Leadership:
        """The file is this server's alone."""
        return SoleLeader()

    # Opening

    def _open(self) -> None:
        try:
            self._db = self._connect()
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in _NOT_DAMAGED):
                raise ConfigError(f"rpcwebsocketeventstore: {self._path} can't be used: {error}") from None
            self._set_aside(error)
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        try:
            os.chmod(self._path, 0o600)
            db.execute("PRAGMA locking_mode = EXCLUSIVE")  # two servers with one file would number events twice
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
                logger.warning("%s was not closed before the machine went down: its logs begin anew", self._path)
                db.execute("DELETE FROM entries")
                db.execute("DELETE FROM topics")
            self._read(db)
            db.execute("REPLACE INTO meta VALUES ('boot', ?), ('clean', '0'), ('version', '1')", (_boot(),))
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, error: Exception) -> None:
        """Keeps a damaged file for whoever wants to look into it, and lets a new one be made."""
        aside = f"{self._path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._path + ending, aside + ending)
        logger.error("%s is damaged (%s): set aside as %s; all logs begin anew", self._path, error, aside)

    def _read(self, db: sqlite3.Connection) -> None:
        self._loaded = {name: (epoch, head, []) for name, epoch, head in db.execute("SELECT * FROM topics")}
        self._heads = {name: head for name, (_, head, _) in self._loaded.items()}
        oldest = time.time() - self._limits.history.history_age
        db.execute("DELETE FROM entries WHERE topic GLOB ? AND at < ?", (USER_PREFIX + "*", oldest))
        for name, seq, at, data in db.execute("SELECT topic, seq, at, data FROM entries ORDER BY topic, seq"):
            if name in self._loaded:
                self._loaded[name][2].append((int(seq), float(at), bytes(data)))
        users = [name for name, (_, _, rows) in self._loaded.items() if name.startswith(USER_PREFIX) and not rows]
        for name in users[self._limits.events.user_topics :]:
            db.execute("DELETE FROM topics WHERE name = ?", (name,))
            del self._loaded[name], self._heads[name]

    def _load(self, topic: Topic, *, at_start: bool = False) -> None:
        """Fills a topic's log with what the file has of it, once."""
        with self._adopting:
            found = self._loaded.pop(topic.name, None)
        if found is not None:
            epoch, head, rows = found
            now = time.time()
            topic.log.load(epoch, head, [(seq, data, max(0.0, now - at)) for seq, at, data in rows])
        elif at_start:
            if topic.log.position.seq:  # of an earlier run whose file is gone
                topic.log.restart(secrets.token_hex(8))
            assert self._db is not None
            self._db.execute("REPLACE INTO topics VALUES (?, ?, 0)", (topic.name, topic.log.position.epoch))

    # Writing

    def _run(self) -> None:
        while True:
            self._backlog.wait(None)
            try:
                self._write_all()
            except Exception as error:
                self._fail(error)
            if self._stop_by is not None:
                self._close()
                return

    def _write_all(self) -> None:
        while (events := self._backlog.first(_BATCH)) or self._backlog.epoch():
            if not events:
                anew = self._backlog.epoch()
                assert anew is not None
                self._begin_anew(anew[0])
                self._backlog.done(1)
                continue
            if self._stop_by is not None and self._stop_by.expired:
                return
            self._delete_forgotten()
            if self._db is None:
                numbered: list[tuple[Topic, bytes, int | None]] = [(topic, data, None) for topic, data, _ in events]
            else:
                with self._transaction() as db:
                    numbered = [(topic, data, self._insert(db, topic, data)) for topic, data, _ in events]
                    for topic in {topic for topic, _, seq in numbered if seq is not None}:
                        self._account(db, topic)
            self._backlog.done(len(events))
            for topic, data, seq in numbered:
                assert self._hub is not None
                self._hub.append(topic, data, seq)
        self._delete_forgotten()
        for topic, _ in self._backlog.lost():
            self._begin_anew(topic)
            self._backlog.told(topic)

    def _delete_forgotten(self) -> None:
        """Deletes dropped topics, before one of the same name gets its first event."""
        while self._forgotten:
            name = self._forgotten.popleft()
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
            return None  # dropped meanwhile: it has no subscriber, and nobody will find it
        seq = self._heads.get(topic.name, 0) + 1
        db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (topic.name, seq, time.time(), data))
        self._heads[topic.name] = seq
        return seq

    def _account(self, db: sqlite3.Connection, topic: Topic) -> None:
        epoch = topic.log.position.epoch
        db.execute("REPLACE INTO topics VALUES (?, ?, ?)", (topic.name, epoch, self._heads[topic.name]))
        db.execute("DELETE FROM entries WHERE topic = ? AND seq < ?", (topic.name, topic.log.first))

    def _begin_anew(self, topic: Topic) -> None:
        """A topic of which events were lost gets a new epoch, so that nobody reads across the hole unknowingly."""
        epoch = secrets.token_hex(8)
        if self._db is not None:
            with self._transaction() as db:
                db.execute("DELETE FROM entries WHERE topic = ?", (topic.name,))
                db.execute("REPLACE INTO topics VALUES (?, ?, 0)", (topic.name, epoch))
                self._heads[topic.name] = 0
        topic.log.restart(epoch)
        assert self._hub is not None
        self._hub.announce(topic)

    def _fail(self, error: Exception) -> None:
        """The file can't be written: goes on in memory. What is published from now on has new epochs, so that the file,
        which may be used again after the next start, stays true to what clients saw."""
        logger.error("%s can't be written: %s; events are kept in memory only, until the next start", self._path, error)
        self._close(clean=False)
        with self._adopting:
            topics = list(self._topics.values())
        for topic in topics:
            self._begin_anew(topic)
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


def _boot() -> str:
    """What tells one run of the machine from another; something new each time where that is not known."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return secrets.token_hex(8)
