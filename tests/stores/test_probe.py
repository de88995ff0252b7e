"""Whether a store can be used, without using it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from dilithion_ws.stores.probe import find_store_problem

from ..support import RedisServer, free_port, needs_redis


def make_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE x (y)")


def test_a_file_that_does_not_exist_needs_a_directory_for_it(tmp_path: Path) -> None:
    assert find_store_problem(f"sqlite:{tmp_path}/events.db") == ""
    assert "can't be written" in find_store_problem(f"sqlite:{tmp_path}/none/events.db")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["events.db", "a?mode=memory#1.db"])
def test_a_database_is_read_and_nothing_is_left_beside_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make_database(path)
    assert find_store_problem(f"sqlite:{path}") == ""
    path.write_bytes(b"nonsense" * 1000)
    assert "not a database" in find_store_problem(f"sqlite:{path}")
    assert os.listdir(tmp_path) == [name]


def test_damage_inside_of_a_database_is_found(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE x (y); CREATE INDEX i ON x (y);")
        db.executemany("INSERT INTO x VALUES (?)", [(f"{number:0100}",) for number in range(1000)])
        db.commit()
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    assert find_store_problem(f"sqlite:{path}") != ""


def test_a_database_in_use_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"not looked at")
    (tmp_path / "events.db-wal").touch()
    assert find_store_problem(f"sqlite:{path}") == ""


def test_a_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.db"
    make_database(path)
    monkeypatch.setattr("dilithion_ws.stores.probe.os.access", lambda path, mode: False)  # root may write everything
    assert find_store_problem(f"sqlite:{path}") == "the file can't be written"


@needs_redis
def test_a_redis_answers_or_does_not(redis_server: RedisServer) -> None:
    assert find_store_problem(redis_server.url) == ""
    problem = find_store_problem(f"redis://:hush-hush@127.0.0.1:{free_port()}/0")
    assert "refused" in problem
    assert "hush-hush" not in problem


def test_without_its_library_a_redis_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dilithion_ws.stores.redis_endpoint", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    assert "needs the package redis: pip install redis" in find_store_problem("redis://127.0.0.1/0")
