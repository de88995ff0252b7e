"""Whole stores, read and written without a server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError
from dilithion_ws.events.log import StoredEntry
from dilithion_ws.stores.archive import Archive, describe, export_lines, import_lines, read_store, write_store
from dilithion_ws.stores.sqlite_file import StoredLog

from ..support import RedisServer, needs_redis


def archive(count: int = 5) -> Archive:
    entries = [StoredEntry(seq, b'{"n":%d,"fee":0.10000000}' % seq, 10.0) for seq in range(1, count + 1)]
    return Archive({"t": StoredLog("e1", count, entries), "empty": StoredLog("e2", 7, [])}, 0)


def same(one: Archive, other: Archive) -> bool:
    def shown(archive: Archive) -> dict[str, tuple[str, int, list[tuple[int, bytes]]]]:
        return {
            name: (log.epoch, log.head, [(entry.seq, entry.data) for entry in log.entries])
            for name, log in archive.logs.items()
        }

    return shown(one) == shown(other)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'events.db'}"
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    return redis_server.url


def test_what_is_written_is_read(store: str) -> None:
    assert read_store(store).logs == {}
    write_store(store, archive())
    found = read_store(store)
    assert same(found, archive())
    assert all(9 < entry.age < 20 for entry in found.logs["t"].entries)
    with pytest.raises(ConfigError, match="has events already"):
        write_store(store, archive())


def test_an_export_has_every_digit() -> None:
    lines = list(export_lines(archive()))
    assert b'"event":{"n":1,"fee":0.10000000}' in lines[3 if b"empty" in lines[1] else 2]
    found = import_lines(lines)
    assert same(found, archive())
    assert list(describe(found)) == ["empty: 0 events up to 7 of epoch e2", "t: 5 events up to 5 of epoch e1"]


def test_damage_in_redis_is_counted(redis_server: RedisServer) -> None:
    redis = pytest.importorskip("redis")
    write_store(redis_server.url, archive())
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.xadd("dilithion-ws:t:stream", {"e": "e1", "t": 0, "d": "{}", "c": "0"}, "6-0")
        direct.xadd("dilithion-ws:t:stream", {"e": "another", "t": 0, "d": "{}"}, "7-0")
    found = read_store(redis_server.url)
    assert same(found, archive())
    assert list(describe(found))[-1] == "1 events or logs are damaged"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([b"{}"], "line 1 of the export can't be used: it is not an export"),
        ([b"\xff"], "line 1"),
        ([*list(export_lines(archive()))[:1], b'{"topic":"t","seq":1,"at":1,"event":1}'], "line 2"),
        ([*list(export_lines(archive()))[:2], b'{"topic":'], "line 3"),
    ],
)
def test_what_is_not_an_export(lines: list[bytes], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        import_lines(lines)


TOPIC = {"topic": "t", "epoch": "e", "head": 5}
EVENT = {"topic": "t", "seq": 5, "at": 1.0, "event": {}}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([TOPIC], "cut off"),
        ([TOPIC, EVENT], "cut off"),
        ([TOPIC, EVENT, {"lines": 5}], "cut off"),
        ([TOPIC, {"lines": 3}, EVENT], "line 4 of the export can't be used: it is after the last line"),
        ([TOPIC, TOPIC], "not a new topic"),
        ([{**TOPIC, "epoch": 'a"b'}], "is not an epoch"),
        ([{**TOPIC, "head": 1 << 60}], "is not a number of events"),
        ([{**TOPIC, "head": -1}], "is not a number of events"),
        ([TOPIC, EVENT, EVENT], "5 does not follow 5"),
        ([TOPIC, {**EVENT, "seq": 6}], "beyond the head 5"),
        ([TOPIC, {**EVENT, "at": -1e308}], "is not a time"),
    ],
)
def test_an_export_that_was_cut_off_or_changed(lines: list[Any], message: str) -> None:
    head = {"format": "dilithion-ws events", "version": 1}
    with pytest.raises(ConfigError, match=message):
        import_lines(json.dumps(line).encode() for line in (head, *lines))


def test_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    for text in ("memory", "redis://127.0.0.1:1/0", f"sqlite:{tmp_path}"):
        with pytest.raises(ConfigError):
            read_store(text)
    with pytest.raises(ConfigError, match="can't be written"):
        write_store(f"sqlite:{tmp_path / 'none' / 'events.db'}", archive())


def test_a_copy_of_a_machine_that_has_crashed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    write_store(store, archive())
    monkeypatch.setattr("dilithion_ws.stores.sqlite_file._boot", lambda: str(time.monotonic()))
    assert same(read_store(store), archive())
