"""The SQLite file: each byte of it may change, it may be of another version or program, and the disk may be full."""

from __future__ import annotations

import json
import logging
import os
import random
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError, RpcTable, WebSocketServer
from dilithion_ws.client import Client
from dilithion_ws.events.log import StoredEntry
from dilithion_ws.stores.sqlite_faults import fault_of
from dilithion_ws.stores.sqlite_file import SqliteFile, _boot
from dilithion_ws.stores.store_fault import StoreFault, StoreFaultKind

from ..support import wait_for
from ..support.configs import make_config
from ..support.fixtures import ServerFactory
from ..support.http import request

FLIPS = int(os.environ.get("STORE_FLIPS", "300"))
"""How many bytes are changed, one at a time."""
EVENTS = 40


def write(path: Path, count: int = EVENTS) -> dict[int, bytes]:
    """Write a file with events of one topic, and another topic without any. Return the events."""
    events = {seq: json.dumps({"n": seq, "text": "x" * 200}).encode() for seq in range(1, count + 1)}
    file = SqliteFile(str(path))
    with file.transaction():
        for seq, data in events.items():
            file.add_entry("t", "epoch-of-t", seq, 1_700_000_000.0 + seq, data)
        file.save_topic("t", "epoch-of-t", count, 1)
        file.save_topic("empty", "epoch-of-empty", 7, 8)
    file.close(clean=True)
    return events


def entries_of(file: SqliteFile, topic: str) -> list[StoredEntry]:
    """Return what a log would use of it: the run that ends at the head."""
    log = file.logs.get(topic)
    found: list[StoredEntry] = []
    for entry in reversed(log.entries if log is not None else []):
        assert log is not None
        if entry.seq != log.head - len(found):
            break
        found.insert(0, entry)
    return found


def verdict(path: Path, events: dict[int, bytes]) -> str:
    """Open a changed file. Return what became of it, if that is right."""
    try:
        file = SqliteFile(str(path))
    except StoreFault as fault:
        return "unusable" if fault.kind in (StoreFaultKind.VERSION, StoreFaultKind.FOREIGN) else fault.kind.value
    log, empty = file.logs.get("t"), file.logs.get("empty")
    assert set(file.logs) <= {"t", "empty"}
    assert log is None or all(entry.data == events[entry.seq] for entry in log.entries)
    assert log is None or (log.epoch, log.head) == ("epoch-of-t", EVENTS)
    assert empty is None or (empty.epoch, empty.head) == ("epoch-of-empty", 7)
    is_whole = len(entries_of(file, "t")) == EVENTS and empty is not None
    assert is_whole or file.damaged or not file.logs, "all logs start new epochs if the file does not fit to its mark"
    file.close(clean=True)
    return "no harm" if is_whole else "found"


def test_each_changed_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    """Whatever byte changes: the start does not fail, and no event is other than it was."""
    path = tmp_path / "events.db"
    events = write(path)
    whole, mark = path.read_bytes(), path.with_name("events.db-session").read_bytes()
    chance = random.Random(1)
    places = range(len(whole)) if len(whole) <= FLIPS else sorted(chance.sample(range(len(whole)), FLIPS))
    outcomes: Counter[str] = Counter()
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= chance.choice([0xFF, 1 << chance.randrange(8)])
        path.write_bytes(changed)
        path.with_name("events.db-session").write_bytes(mark)
        outcomes[verdict(path, events)] += 1
        for one in tmp_path.iterdir():
            one.unlink()
    assert outcomes["found"] > len(places) / 4, outcomes
    assert set(outcomes) <= {"found", "no harm", "unusable"}, outcomes


def test_damaged_events_are_set_aside_and_what_is_after_them_is_used(
    serve: ServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.db"
    server = serve(f"sqlite:{path}")
    for number in range(1, 21):
        server.publish("t", {"n": number})
    wait_for(lambda: server.events.topic("t").log.position.seq == 20)
    epoch = server.events.topic("t").log.position.epoch
    assert server.stop(5)
    changed = path.read_bytes().replace(b'{"n":10}', b'{"n":\xff0}')
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    again = serve(f"sqlite:{path}")
    assert (again.events.topic("t").log.first, again.events.topic("t").log.position) == (11, (epoch, 20))
    assert "1 events of t are damaged" in caplog.text
    assert next(tmp_path.glob("events.db.damaged-*")).stat().st_mode & 0o777 == 0o600
    status = again.events.store_status
    assert status is not None
    assert (status.kind, status.fault, status.damaged) == ("sqlite", "", 1)
    with Client(again.url) as client:
        assert client.subscribe("t", since=(epoch, 15)).get(10).data == {"n": 16}


def test_a_damaged_head_begins_a_new_epoch(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    write(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET data = x'00' WHERE seq = ?", (EVENTS,))
    db.close()
    file = SqliteFile(str(path))
    assert "t" not in file.logs
    assert file.damaged == 1
    file.close(clean=True)


def first_version(path: Path, version: str = "1") -> None:
    """Write a file as dilithion_ws 0.1 did."""
    with sqlite3.connect(path) as db:
        db.executescript("""
            CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
            CREATE TABLE topics (name TEXT PRIMARY KEY, epoch TEXT NOT NULL, head INTEGER NOT NULL) WITHOUT ROWID;
            CREATE TABLE entries (
                topic TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, data BLOB NOT NULL, PRIMARY KEY (topic, seq)
            ) WITHOUT ROWID;
        """)
        db.execute("INSERT INTO meta VALUES ('boot', 'x'), ('clean', '1'), ('version', ?)", (version,))
        db.execute("INSERT INTO topics VALUES ('t', 'old', 3)")
        db.executemany("INSERT INTO entries VALUES ('t', ?, 1e9, ?)", [(seq, b'{"n":%d}' % seq) for seq in (1, 2, 3)])
    db.close()


def test_a_file_of_the_first_version_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    first_version(path)
    for _ in range(2):
        file = SqliteFile(str(path))
        assert (file.logs["t"].epoch, file.logs["t"].head) == ("old", 3)
        assert [(entry.seq, entry.data) for entry in file.logs["t"].entries] == [
            (seq, b'{"n":%d}' % seq) for seq in (1, 2, 3)
        ]
        assert file.damaged == 0
        file.close(clean=True)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM entries WHERE sum IS NULL").fetchone() == (0,)
        assert db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone() == ("2",)
    db.close()


@pytest.mark.parametrize(("version", "text"), [("3", "it is of version '3', and this dilithion_ws knows up to 2")])
def test_a_file_of_a_later_version_is_left_as_it_is(tmp_path: Path, version: str, text: str) -> None:
    path = tmp_path / "events.db"
    first_version(path, version)
    before = path.read_bytes()
    with pytest.raises(StoreFault, match=text) as caught:
        SqliteFile(str(path))
    assert caught.value.kind is StoreFaultKind.VERSION
    assert path.read_bytes()[100:] == before[100:]


@pytest.mark.parametrize("table", ["coins (id TEXT)", "topics (id TEXT)", "meta (id TEXT)"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "wallet.db"
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE {table}")
    db.close()
    with pytest.raises(StoreFault, match="it is a database of another program") as caught:
        SqliteFile(str(path))
    assert caught.value.kind is StoreFaultKind.FOREIGN
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    db.close()


# A file that cannot be used


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder])
    if not mounted:
        pytest.skip("needs root, to mount a small file system")
    yield folder
    subprocess.check_call(["umount", "--lazy", folder])


def fill(folder: Path) -> Path:
    """Leave no room."""
    path = folder / "filling"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, b"x" * 4096):
            pass
    except OSError:
        pass
    finally:
        os.close(fd)
    return path


def state_of(server: WebSocketServer) -> dict[str, Any]:
    status, _, body = request(server, "GET", "/health")
    assert status == 200
    found: dict[str, Any] = json.loads(body)["store"]
    return found


def test_a_full_disk_costs_no_event_and_the_file_is_used_again(
    rpc: RpcTable, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(event_store=f"sqlite:{small_disk / 'events.db'}", store_retry=0.1)
    with WebSocketServer(rpc, config) as server, Client(server.url) as client:
        server.topic("t")
        subscription = client.subscribe("t")
        sent = 0

        def publish(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                sent += 1
                server.publish("t", {"n": sent, "text": "x" * 500})
                assert subscription.get(10).data["n"] == sent

        publish(10)
        assert state_of(server) == {"kind": "sqlite", "good": True, "fault": "", "damaged": 0}
        filling = fill(small_disk)
        while state_of(server)["good"]:
            publish(10)
        assert state_of(server)["fault"] == "full"
        assert b'dilithion_ws_store_up{store="sqlite"} 0.0' in request(server, "GET", "/metrics")[2]
        publish(10)
        filling.unlink()
        wait_for(lambda: state_of(server)["good"])
        assert b'dilithion_ws_store_up{store="sqlite"} 1.0' in request(server, "GET", "/metrics")[2]
        publish(10)
        place = subscription.position
    assert "events are kept in memory only" in caplog.text
    assert "can be used again" in caplog.text
    with WebSocketServer(rpc, config) as server:
        server.topic("t")
        log = server.events.topic("t").log
        assert log.position == place
        assert log.newest().data.startswith(b'{"n":%d' % sent)


def test_a_server_starts_without_its_file_and_uses_it_later(
    rpc: RpcTable, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filling = fill(small_disk)
    store = f"sqlite:{small_disk / 'events.db'}"
    with pytest.raises(ConfigError, match="can't be used"):
        WebSocketServer(rpc, make_config(event_store=store, store_required=True)).start()
    with WebSocketServer(rpc, make_config(event_store=store, store_retry=0.1)) as server, Client(server.url) as client:
        assert state_of(server)["fault"] in ("full", "other")
        subscription = client.subscribe("blocks")
        server.topic("late")
        server.publish("late", {"n": 1})
        wait_for(lambda: server.events.topic("late").log.position.seq)
        filling.unlink()
        wait_for(lambda: state_of(server)["good"])
        place = server.events.topic("late").log.position
        assert subscription.position.seq == 0
    with WebSocketServer(rpc, make_config(event_store=store)) as server:
        server.topic("late")
        assert server.events.topic("late").log.position == place
    assert caplog.text.count("events are kept in memory only") == 1


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda folder: folder / "none" / "events.db", StoreFaultKind.AWAY),
        (lambda folder: folder, StoreFaultKind.OTHER),
    ],
)
def test_what_is_wrong_with_a_path(tmp_path: Path, make: Any, kind: StoreFaultKind) -> None:
    with pytest.raises(StoreFault) as caught:
        SqliteFile(str(make(tmp_path)))
    assert caught.value.kind is kind


def test_a_file_in_use_is_tried_again(serve: ServerFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    first = serve(store)
    with caplog.at_level(logging.ERROR):
        second = serve(store, store_retry=0.2)
    assert state_of(second)["fault"] == "in use"
    second.publish("t", {"n": 1})
    assert first.stop(5)
    wait_for(lambda: state_of(second)["good"], 20)
    assert second.events.topic("t").log.position.seq == 1


def test_a_file_that_fails_again_is_tried_again(
    serve: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(f"sqlite:{tmp_path / 'events.db'}", store_retry=0.05)
    refusals = iter(["database or disk is full", "attempt to write a readonly database"])

    def refuse(*args: Any) -> None:
        raise sqlite3.OperationalError(next(refusals))

    with monkeypatch.context() as patched:
        patched.setattr(SqliteFile, "add_entry", refuse)
        patched.setattr(SqliteFile, "clear", refuse)
        server.publish("t", {"n": 1})
        wait_for(lambda: next(refusals, None) is None)
        wait_for(lambda: server.events.topic("t").log.position.seq == 1)
    wait_for(lambda: state_of(server)["good"], 20)
    epoch = server.events.topic("t").log.position.epoch
    assert server.stop(5)
    assert serve(f"sqlite:{tmp_path / 'events.db'}").events.topic("t").log.position == (epoch, 1)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database is locked"), StoreFaultKind.IN_USE),
        (sqlite3.OperationalError("database or disk is full"), StoreFaultKind.FULL),
        (sqlite3.OperationalError("attempt to write a readonly database"), StoreFaultKind.READ_ONLY),
        (sqlite3.DatabaseError("malformed"), StoreFaultKind.OTHER),
        (ZeroDivisionError("x"), StoreFaultKind.OTHER),
    ],
)
def test_kinds_of_errors(error: Exception, kind: StoreFaultKind) -> None:
    assert fault_of(error).kind is kind


def test_a_path_that_may_not_be_used(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.symlink_to(tmp_path / "other")
    with pytest.raises(StoreFault):
        SqliteFile(str(path))


def test_a_machine_without_a_boot_id_has_a_new_one_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_file(*args: Any, **options: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", no_file)
    assert _boot() != _boot()
