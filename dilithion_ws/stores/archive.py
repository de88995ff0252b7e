"""Read and write whole stores, while no server needs to run: to check them, to keep a copy, and to move to another store.

An export is JSON, one object a line: the format, then each log, followed by its events.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError
from ..events.log import StoredEntry
from ..util.secrets import mask_url
from .checksums import checksum
from .sqlite_file import SqliteFile, StoredLog
from .store_fault import StoreFault

__all__ = ["Archive", "describe", "export_lines", "import_lines", "read_store", "write_store"]

_FORMAT = {"format": "dilithion-ws events", "version": 1}
_TIMEOUT = 5.0
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
    """Yield the lines of an export."""
    now = time.time()
    yield _encode(_FORMAT)
    for topic, log in sorted(archive.logs.items()):
        yield _encode({"topic": topic, "epoch": log.epoch, "head": log.head})
        for entry in log.entries:
            yield _encode({"topic": topic, "seq": entry.seq, "at": now - entry.age, "event": msgspec.Raw(entry.data)})


def import_lines(lines: Iterable[bytes]) -> Archive:
    """Return what an export has.

    Raises:
        ConfigError: it is not an export, or has been cut off or changed.
    """
    now, logs = time.time(), dict[str, StoredLog]()
    for number, line in enumerate(lines, 1):
        try:
            found = _decode(line)
            if number == 1:
                if found != _FORMAT:
                    raise ValueError("it is not an export of events")
            elif "epoch" in found:
                logs[str(found["topic"])] = StoredLog(str(found["epoch"]), int(found["head"]), [])
            else:
                data = msgspec.json.decode(line, type=dict[str, msgspec.Raw])["event"]
                age = max(0.0, now - float(found["at"]))
                logs[found["topic"]].entries.append(StoredEntry(int(found["seq"]), bytes(data), age))
        except (ValueError, LookupError, TypeError, UnicodeDecodeError) as error:
            raise ConfigError(f"line {number} of the export can't be used: {error}") from None
    return Archive(logs, 0)


def _read_sqlite(path: str) -> Archive:
    if not os.path.exists(path):
        return Archive({}, 0)
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
    finally:
        file.close(clean=True)


@contextlib.contextmanager
def _connected(url: str) -> Iterator[tuple[Any, str]]:
    """Use a Redis, with a prefix for its keys. Raise ConfigError if that is impossible."""
    try:
        from .redis_endpoint import FAULTS, RedisEndpoint
    except ImportError:
        raise ConfigError("Redis needs the extra redis (pip install dilithion-ws[redis])") from None
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
            epoch, head = client.mget(key, f"{prefix}{name}:head")
            log = logs[name] = StoredLog(epoch.decode(), int(head or 0), [])
            for id, fields in client.xrange(f"{prefix}{name}:stream"):
                if fields[b"e"] != epoch:
                    continue
                if fields.get(b"c") not in (None, checksum(name, fields[b"d"]).encode()):
                    damaged += 1
                    continue
                age = max(0.0, now - int(fields[b"t"]) / 1000)
                log.entries.append(StoredEntry(int(id.partition(b"-")[0]), fields[b"d"], age))
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
