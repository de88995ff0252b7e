"""Read and write whole stores, while no server needs to run: to check them, to keep a copy, and to move to another store.

An export is JSON, one object a line: the format, then each log, followed by its events.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError
from ..events.hub import USER_PREFIX
from ..events.log import StoredEntry
from ..util.secrets import mask_url
from .checksums import checksum
from .sqlite_file import SqliteFile, StoredLog
from .store_fault import StoreFault

__all__ = ["Archive", "describe", "export_lines", "import_lines", "read_store", "write_store"]

_FORMAT = {"format": "dilithion-ws events", "version": 1}
_TIMEOUT = 5.0
_EPOCH = re.compile("[A-Za-z0-9_-]{1,64}")
_MOST_EVENTS = 1 << 53
_LONGEST_NAME = 128
_USER_KEPT = 86_400
"""Seconds for which Redis keeps an imported topic of a user, unless a server uses it."""
_MOST_TRIES, _PAUSE = 20, 0.05
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Archive(NamedTuple):
    """What a store has.

    Attributes:
        logs: by topic. Only events without a gap up to the head are of use to a server.
        damaged: how many events, and logs, are not as they were written.
    """

    logs: dict[str, StoredLog]
    damaged: int

    def with_new_epochs(self) -> Archive:
        """Return it for a store whose logs went on after the export: the numbers of those events are given again, so
        that their readers must learn of it."""
        logs = {topic: StoredLog(secrets.token_hex(8), log.head, log.entries) for topic, log in self.logs.items()}
        return self._replace(logs=logs)


def read_store(event_store: str) -> Archive:
    """Read a store. It changes nothing, and a server may use the store meanwhile.

    Args:
        event_store: as the setting has it.

    Raises:
        ConfigError: it cannot be read.
    """
    kind, _, path = event_store.partition(":")
    if kind == "sqlite":
        return _read_sqlite(path)
    if kind == "memory":
        text = "the event store is the memory of a server: there is nothing to read (rpcwebsocketeventstore)"
        raise ConfigError(text)
    return _read_redis(event_store)


def write_store(event_store: str, archive: Archive) -> None:
    """Write logs to a store that has none. No server may use it meanwhile.

    Raises:
        ConfigError: it cannot be written, or has logs already.
    """
    if read_store(event_store).logs:
        raise ConfigError(f"{mask_url(event_store)} has events already: import into an empty store")
    kind, _, path = event_store.partition(":")
    if kind == "sqlite":
        _write_sqlite(path, archive)
    else:
        _write_redis(event_store, archive)


def export_lines(archive: Archive) -> Iterator[bytes]:
    """Yield the lines of an export. The last one has their number, so that one that was cut off is recognised."""
    now, count = time.time(), 2
    yield _encode(_FORMAT)
    for topic, log in sorted(archive.logs.items()):
        count += 1 + len(log.entries)
        yield _encode({"topic": topic, "epoch": log.epoch, "head": log.head})
        for entry in log.entries:
            yield _encode({"topic": topic, "seq": entry.seq, "at": now - entry.age, "event": msgspec.Raw(entry.data)})
    yield _encode({"lines": count})


def import_lines(lines: Iterable[bytes]) -> Archive:
    """Return what an export has.

    Raises:
        ConfigError: it is not an export, or has been cut off or changed.
    """
    now, logs = time.time(), dict[str, StoredLog]()
    number, count = 0, None
    for number, line in enumerate(lines, 1):
        try:
            found = _decode(line)
            if count is not None:
                raise ValueError("it is after the last line")
            if number == 1:
                if found != _FORMAT:
                    raise ValueError("it is not an export of events")
            elif "lines" in found:
                count = found["lines"]
            elif "epoch" in found:
                _add_log(logs, found)
            else:
                data = msgspec.json.decode(line, type=dict[str, msgspec.Raw])["event"]
                _add_entry(logs[found["topic"]], found, bytes(data), now)
        except (ValueError, LookupError, TypeError, UnicodeDecodeError) as error:
            raise ConfigError(f"line {number} of the export can't be used: {error}") from None
    if count != number:
        raise ConfigError(f"the export was cut off: it has {number} lines, and should have {count or 'more'}")
    return Archive(logs, 0)


def _add_log(logs: dict[str, StoredLog], found: dict[str, Any]) -> None:
    """Add a log. Raise ValueError if a store could not have it."""
    topic, epoch, head = found["topic"], found["epoch"], found["head"]
    if not isinstance(topic, str) or topic in logs or not topic.isprintable() or not 0 < len(topic) <= _LONGEST_NAME:
        raise ValueError(f"{topic!r} is not a new topic")
    if not isinstance(epoch, str) or not _EPOCH.fullmatch(epoch):
        raise ValueError(f"{epoch!r} is not an epoch")
    if type(head) is not int or not 0 <= head < _MOST_EVENTS:
        raise ValueError(f"{head!r} is not a number of events")
    logs[topic] = StoredLog(epoch, head, [])


def _add_entry(log: StoredLog, found: dict[str, Any], data: bytes, now: float) -> None:
    """Add an event. Raise ValueError if a store could not have it there."""
    seq, at = found["seq"], float(found["at"])
    last = log.entries[-1].seq if log.entries else 0
    if type(seq) is not int or not last < seq <= log.head:
        raise ValueError(f"{seq!r} does not follow {last}, or is beyond the head {log.head}")
    if not 0 <= at < _MOST_EVENTS:
        raise ValueError(f"{at!r} is not a time")
    log.entries.append(StoredEntry(seq, data, max(0.0, now - at)))


def _read_sqlite(path: str) -> Archive:
    if not os.path.exists(path):
        return Archive({}, 0)
    for _ in range(_MOST_TRIES):
        before = _stamp(path)
        found = _read_copy(path)
        if not found.damaged or _stamp(path) == before:
            break
        time.sleep(_PAUSE)  # a server has written meanwhile, and the copy is of two moments, which its checksums show
    return found


def _read_copy(path: str) -> Archive:
    """Copy a file and its log of changes, and read that."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "events.db")
        try:
            for ending in ("", "-wal"):
                if os.path.exists(path + ending):
                    shutil.copyfile(path + ending, copy + ending)
            file = SqliteFile(copy, is_copy=True)
        except (OSError, StoreFault) as error:
            raise ConfigError(f"{path} can't be read: {error}") from None
        file.close(clean=False)
        return Archive(file.logs, file.damaged)


def _stamp(path: str) -> list[tuple[int, int]]:
    """Return what changes when a server writes."""
    found = []
    for ending in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path + ending)
            found.append((status.st_size, status.st_mtime_ns))
    return found


def _write_sqlite(path: str, archive: Archive) -> None:
    now = time.time()
    try:
        file = SqliteFile(path)
    except StoreFault as fault:
        raise ConfigError(f"{path} can't be written: {fault}") from None
    try:
        with file.transaction():
            for topic, log in archive.logs.items():
                for entry in log.entries:
                    file.add_entry(topic, log.epoch, entry.seq, now - entry.age, entry.data)
                file.save_topic(topic, log.epoch, log.head, 0)
    except sqlite3.Error as error:
        raise ConfigError(f"{path} can't be written: {error}") from None
    finally:
        file.close(clean=True)


@contextlib.contextmanager
def _connected(url: str) -> Iterator[tuple[Any, str]]:
    """Use a Redis, with a prefix for its keys. Raise ConfigError if that is impossible."""
    try:
        from .redis_endpoint import FAULTS, RedisEndpoint
    except ImportError:
        raise ConfigError("Redis needs the package redis: pip install redis") from None
    try:
        with contextlib.closing(RedisEndpoint(url, _TIMEOUT)) as endpoint:
            yield endpoint.client, endpoint.prefix
    except (*FAULTS, ValueError) as error:
        raise ConfigError(f"Redis can't be used: {mask_url(str(error))}") from None


def _read_redis(url: str) -> Archive:
    now, logs, damaged = time.time(), dict[str, StoredLog](), 0
    with _connected(url) as (client, prefix):
        for key in sorted(client.scan_iter(f"{prefix}*:epoch")):
            name = key.decode().removeprefix(prefix).removesuffix(":epoch")
            pipeline = client.pipeline(transaction=True)  # a server may go on to write
            pipeline.mget(key, f"{prefix}{name}:head")
            pipeline.xrange(f"{prefix}{name}:stream")
            (epoch, head), rows = pipeline.execute()
            if epoch is None or head is None or not _EPOCH.fullmatch(epoch.decode("ascii", "replace")):
                damaged += 1
                continue
            log = logs[name] = StoredLog(epoch.decode(), int(head), [])
            for id, fields in rows:
                data = fields.get(b"d", b"")
                if fields.get(b"e") != epoch:
                    continue
                if fields.get(b"c") not in (None, checksum(name, data).encode()):
                    damaged += 1
                    continue
                age = max(0.0, now - int(fields[b"t"]) / 1000)
                log.entries.append(StoredEntry(int(id.partition(b"-")[0]), data, age))
    return Archive(logs, damaged)


def _write_redis(url: str, archive: Archive) -> None:
    now = time.time()
    with _connected(url) as (client, prefix), client.pipeline(transaction=True) as pipeline:
        for topic, log in archive.logs.items():
            pipeline.set(f"{prefix}{topic}:epoch", log.epoch)
            pipeline.set(f"{prefix}{topic}:head", log.head)
            for entry in log.entries:
                fields = {
                    "e": log.epoch,
                    "t": int((now - entry.age) * 1000),
                    "d": entry.data,
                    "c": checksum(topic, entry.data),
                }
                pipeline.xadd(f"{prefix}{topic}:stream", fields, f"{entry.seq}-0")
            for kind in ("epoch", "head", "stream") if topic.startswith(USER_PREFIX) else ():
                pipeline.expire(f"{prefix}{topic}:{kind}", _USER_KEPT)
        pipeline.execute()


def describe(archive: Archive) -> Iterator[str]:
    """Yield a line about each log: how many events a server would use, and whether some are missing."""
    for topic, log in sorted(archive.logs.items()):
        usable = 0
        for entry in reversed(log.entries):
            if entry.seq != log.head - usable:
                break
            usable += 1
        others = len(log.entries) - usable
        gap = f"; {others} more are before a gap" if others else ""
        yield f"{topic}: {usable} events up to {log.head} of epoch {log.epoch}{gap}"
    if archive.damaged:
        yield f"{archive.damaged} events or logs are damaged"
