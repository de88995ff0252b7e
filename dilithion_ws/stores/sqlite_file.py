"""The SQLite file of the event logs: opening it, verifying what it contains, and writing to it.

Its format is version 2. Each entry has a checksum of its topic, epoch, number, time and data, and each topic one of its
name, epoch and head. So a byte that a disk has changed is found, wherever it is:

- A damaged entry, or one that is missing: only what is after it, up to the head, is used (`EventLog.load`). If that is
  nothing, the log starts a new epoch.
- A damaged topic: its log starts a new epoch.
- A file that SQLite cannot read: it is set aside, and all logs start new epochs.

Version 1 (dilithion_ws 0.1) had no checksums. Such a file is converted, and what is in it is believed.

An epoch may be continued only by a file that has all of its events. So beside the file there is a mark, `PATH-session`,
with the same random text as in the file (see `session_mark`). Each opening and closing changes both. A server that has to
keep events in memory empties the mark, and a copy or an older version of the file does not fit to it: then all logs start
new epochs. The same happens if the machine went down before the file was closed, since its last events may not have been
written to the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..events.log import StoredEntry
from ..util.files import open_private
from .checksums import checksum
from .session_mark import SessionMark, invalidate
from .sqlite_faults import DamageError, fault_or_damage, kind_of_os_error
from .store_fault import StoreFault, StoreFaultKind

__all__ = ["SqliteFile", "StoredLog"]

logger = logging.getLogger("dilithion_ws.events")

_VERSION = "2"
_OPENED, _CLOSED = {"clean": "0"}, {"clean": "1"}
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS topics (
        name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL, sum TEXT
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS entries (
        topic TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL, sum TEXT,
        PRIMARY KEY (topic, seq)
    ) WITHOUT ROWID;
"""
_COLUMNS = {
    "meta": {"name", "value"},
    "topics": {"name", "epoch", "head", "sum"},
    "entries": {"topic", "seq", "at", "data", "sum"},
}


class StoredLog(NamedTuple):
    """What the file contains of a topic."""

    epoch: str
    head: int
    entries: list[StoredEntry]


class SqliteFile:
    """An open file. Only its owner uses it.

    Args:
        path: the file; it is created if it does not exist.
        is_copy: whether it is read only, as a copy: its logs are those of another boot or session, too.
        patience: seconds to wait for another program that has locked it.
        is_obsolete: whether what is in it will be replaced, and is not read. `begin` says when that is done.

    Attributes:
        logs: what it contained, by topic.
        damaged: how many entries and topics were damaged.

    Raises:
        StoreFault: it cannot be used.
    """

    def __init__(self, path: str, is_copy: bool = False, patience: float = 1.0, *, is_obsolete: bool = False) -> None:
        self.path = path
        self._is_copy = is_copy
        self._is_obsolete = is_obsolete
        self._patience = patience
        self._level = logging.DEBUG if is_copy else logging.ERROR
        self._mark: SessionMark | None = None
        self._session = ""
        self.logs: dict[str, StoredLog] = {}
        self.damaged = 0
        try:
            try:
                self._db = self._open()
            except DamageError as error:
                self._set_aside(error)
                self.logs.clear()
                self.damaged += 1
                self._db = self._open()
        except OSError as error:
            raise StoreFault(kind_of_os_error(error), error.strerror or str(error)) from None
        except DamageError as error:
            raise StoreFault(StoreFaultKind.OTHER, f"a new file is damaged, too: {error}") from None

    def _open(self) -> sqlite3.Connection:
        descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)  # before SQLite makes one that others can read
        self._identity = _identity_of(os.fstat(descriptor))
        os.close(descriptor)
        db = sqlite3.connect(self.path, timeout=self._patience, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException as error:
            db.close()
            if self._mark is not None:
                self._mark.close()
            if isinstance(error, sqlite3.Error):
                raise fault_or_damage(error) from error
            if isinstance(error, (ValueError, TypeError, OverflowError)):
                raise DamageError(str(error)) from error
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.text_factory = bytes  # a damaged text may be no UTF-8
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # two servers with one file would use numbers twice
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
        problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != b"ok":
            raise DamageError(problem.decode("utf-8", "replace"))
        meta = self._check_schema(db)
        if meta and not self._is_copy and not self._is_obsolete and (problem := self._incompleteness(meta)):
            logger.warning("%s %s: its logs start new epochs", self.path, problem)
            db.execute("DELETE FROM entries")
            db.execute("DELETE FROM topics")
        if not self._is_obsolete:
            self._read(db)
        if not self._is_copy:
            self._mark = SessionMark(self.path)
            if not self._is_obsolete:
                self._begin_session(db, _OPENED, meta.get("session", ""))

    def begin(self) -> None:
        """Say that an obsolete file has everything from now on."""
        self._begin_session(self._db, _OPENED, "")

    def _begin_session(self, db: sqlite3.Connection, facts: dict[str, str], before: str) -> None:
        """Give the file and the mark another text. If that is interrupted, the mark still fits to the file."""
        assert self._mark is not None
        facts = {"boot": _boot(), "version": _VERSION, **facts}
        session = secrets.token_hex(16)
        self._mark.write(before, session)
        rows = [part for fact in {**facts, "session": session}.items() for part in fact]
        db.execute(f"REPLACE INTO meta VALUES {', '.join(['(?, ?)'] * (len(rows) // 2))}", rows)
        self._mark.write(session)
        self._session = session
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the disk knows, too, whether it is closed

    def _incompleteness(self, meta: dict[str, str]) -> str:
        """Return why the file may not have all events of its epochs, or nothing if it has them."""
        if meta.get("clean") != "1" and meta.get("boot") != _boot():
            return "was not closed before the machine went down"
        found = SessionMark.read(self.path)
        session = meta.get("session", "")
        if (session not in found or not session) if meta.get("version") != "1" else found is not SessionMark.ABSENT:
            return "is a copy, or events were kept in memory since it was used"
        return ""

    def check_place(self) -> None:
        """Raise StoreFault if the path is not of this file any more, so that nothing would find it after a restart."""
        try:
            is_there = _identity_of(os.stat(self.path)) == self._identity
        except OSError as error:
            raise StoreFault(kind_of_os_error(error), error.strerror or str(error)) from None
        if not is_there:
            raise StoreFault(StoreFaultKind.AWAY, "it was replaced by another file")

    def _check_schema(self, db: sqlite3.Connection) -> dict[str, str]:
        """Make the tables, or check that they are ours, and convert those of an earlier version. Return the facts."""
        names = (_text(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))
        found = {name: self._columns(db, name) for name in names if not name.startswith("sqlite_")}
        meta: dict[str, str] = {}
        if found.get("meta") == _COLUMNS["meta"]:
            meta = {_text(name): _text(value) for name, value in db.execute("SELECT name, value FROM meta")}
        version = meta.get("version")
        if version is None and found:
            if any(found.get(name) == columns for name, columns in _COLUMNS.items() if name != "meta"):
                raise DamageError("its version is missing")
            raise StoreFault(StoreFaultKind.FOREIGN, "it is a database of another program")
        if version == "1":
            self._convert(db)
            found = {name: self._columns(db, name) for name in found}
        elif version not in (None, _VERSION):
            text = f"it is of version {version[:20]!r}, and this dilithion_ws knows up to {_VERSION}"
            raise StoreFault(StoreFaultKind.VERSION, text)
        if found and found != _COLUMNS:
            raise DamageError(f"its tables are {sorted(found)}")
        db.executescript(_SCHEMA)
        return meta

    def _columns(self, db: sqlite3.Connection, table: str) -> set[str]:
        return {_text(row[0]) for row in db.execute("SELECT name FROM pragma_table_info(?)", (table,))}

    def _convert(self, db: sqlite3.Connection) -> None:
        """Add checksums to a file of version 1, all at once."""
        logger.info("%s is of version 1: it is converted to version %s", self.path, _VERSION)
        db.execute("BEGIN IMMEDIATE")
        epochs: dict[bytes, str] = {}
        db.execute("ALTER TABLE topics ADD COLUMN sum TEXT")
        db.execute("ALTER TABLE entries ADD COLUMN sum TEXT")
        for name, epoch, head in db.execute("SELECT name, epoch, head FROM topics").fetchall():
            epochs[name] = _text(epoch)
            found = _sum_of_topic(_text(name), _text(epoch), head)
            db.execute("UPDATE topics SET sum = ? WHERE name = ?", (found, _text(name)))
        for topic, seq, at, data in db.execute("SELECT topic, seq, at, data FROM entries").fetchall():
            found = _sum_of_entry(_text(topic), epochs.get(topic, ""), seq, at, data)
            db.execute("UPDATE entries SET sum = ? WHERE topic = ? AND seq = ?", (found, _text(topic), seq))
        db.execute("REPLACE INTO meta VALUES ('version', ?)", (_VERSION,))
        db.execute("COMMIT")

    def _set_aside(self, error: Exception) -> None:
        """Rename a damaged file, so that it can be examined, and a new one can be created."""
        aside = self._aside()
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path + ending, aside + ending)
        text = "%s is damaged (%s): set aside as %s; all logs start new epochs"
        logger.log(self._level, text, self.path, error, aside)

    def _aside(self) -> str:
        return f"{self.path}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"

    # Reading

    def _read(self, db: sqlite3.Connection) -> None:
        now = time.time()
        bad: dict[str, int] = {}  # by topic: damaged entries, and a damaged topic as one
        for name, epoch, head, found in db.execute("SELECT name, epoch, head, sum FROM topics"):
            topic = _text(name)
            if _text(found) != _sum_of_topic(topic, _text(epoch), head):
                bad[topic] = bad.get(topic, 0) + 1
            else:
                self.logs[topic] = StoredLog(_text(epoch), int(head), [])
        for name, seq, at, data, found in db.execute(
            "SELECT topic, seq, at, data, sum FROM entries ORDER BY topic, seq"
        ):
            topic = _text(name)
            log = self.logs.get(topic)
            if log is None:
                bad[topic] = bad.get(topic, 0) + 1  # its topic is damaged, or its own copy of the topic's name
            elif _text(found) != _sum_of_entry(topic, log.epoch, seq, at, data):
                bad[topic] = bad.get(topic, 0) + 1
            else:
                log.entries.append(StoredEntry(int(seq), bytes(data), max(0.0, now - float(at))))
        for topic, log in self.logs.items():
            if log.entries and (missing := log.head + 1 - log.entries[0].seq - len(log.entries)):
                bad.setdefault(topic, missing)
        if bad:
            self._report(db, bad)

    def _report(self, db: sqlite3.Connection, bad: dict[str, int]) -> None:
        """Keep a copy of a file with damaged entries, and drop the topics of which nothing can be used."""
        aside = self._aside()
        with contextlib.suppress(OSError):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copyfile(self.path, aside)
            os.chmod(aside, 0o600)
        for topic, count in bad.items():
            self.damaged += count
            log = self.logs.get(topic)
            is_usable = log is not None and bool(log.entries) and log.entries[-1].seq == log.head
            outcome = "only what is after them is used" if is_usable else "its log starts a new epoch"
            text = "%s: %d events of %s are damaged (a copy is %s): %s"
            logger.log(self._level, text, self.path, count, topic, aside, outcome)
            if not is_usable:
                self.logs.pop(topic, None)
                db.execute("DELETE FROM entries WHERE topic = ?", (topic,))
                db.execute("DELETE FROM topics WHERE name = ?", (topic,))

    def forget_old(self, prefix: str, before: float, most: int) -> None:
        """Drop old entries of the topics with a prefix, and of those without any entry all but some.

        Args:
            prefix: of the topics' names.
            before: Unix seconds.
            most: how many topics without an entry are kept.
        """
        now = time.time()
        for name, log in self.logs.items():
            if name.startswith(prefix):
                young = (index for index, entry in enumerate(log.entries) if now - entry.age >= before)
                del log.entries[: next(young, len(log.entries))]  # all before it, in case the clock was set back
                first = log.entries[0].seq if log.entries else log.head + 1
                self._db.execute("DELETE FROM entries WHERE topic = ? AND seq < ?", (name, first))
        empty = [name for name, log in self.logs.items() if name.startswith(prefix) and not log.entries]
        for name in empty[most:]:
            self.delete_topic(name)
            del self.logs[name]

    # Writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all that is done in the block, or nothing. Raise sqlite3.Error if the file cannot be written."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    def add_entry(self, topic: str, epoch: str, seq: int, at: float, data: bytes) -> None:
        """Add an event. `at` is in Unix seconds."""
        row = (topic, seq, at, data, _sum_of_entry(topic, epoch, seq, at, data))
        self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)

    def save_topic(self, topic: str, epoch: str, head: int, first: int) -> None:
        """Save where a log ends, and drop what is before `first`."""
        self._db.execute(
            "REPLACE INTO topics VALUES (?, ?, ?, ?)", (topic, epoch, head, _sum_of_topic(topic, epoch, head))
        )
        self._db.execute("DELETE FROM entries WHERE topic = ? AND seq < ?", (topic, first))

    def delete_topic(self, topic: str) -> None:
        """Delete a log."""
        self._db.execute("DELETE FROM entries WHERE topic = ?", (topic,))
        self._db.execute("DELETE FROM topics WHERE name = ?", (topic,))

    def clear(self) -> None:
        """Delete all logs."""
        self._db.execute("DELETE FROM entries")
        self._db.execute("DELETE FROM topics")

    def close(self, clean: bool) -> None:
        """Close the file. `clean` says that all that was published is in it."""
        with contextlib.suppress(sqlite3.Error, OSError):
            if clean and self._mark is not None:
                self._begin_session(self._db, _CLOSED, self._session)
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if self._mark is not None:
            self._mark.close()

    def give_up(self) -> None:
        """Close the file, and have all logs start new epochs when it is opened the next time."""
        with contextlib.suppress(sqlite3.Error):  # it may be in another place by now, where its mark is
            self._db.execute("UPDATE meta SET value = '' WHERE name = 'session'")
        self.close(clean=False)
        invalidate(self.path)


def _identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _text(value: bytes | str | None) -> str:
    """Return a text of the file. One that is damaged has no checksum that fits."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _sum_of_topic(name: str, epoch: str, head: int) -> str:
    return checksum(name, epoch, str(head))


def _sum_of_entry(topic: str, epoch: str, seq: int, at: float, data: bytes) -> str:
    return checksum(topic, epoch, repr((seq, at)), data)  # `repr`, as what is damaged may be of any type


def _boot() -> str:
    """Return the identifier of the present boot of the machine, or a random one if the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return secrets.token_hex(8)
