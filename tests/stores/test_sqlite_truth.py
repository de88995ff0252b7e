"""An epoch is continued only by a file that has all of its events, whatever went wrong before."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError, WebSocketServer
from dilithion_ws.stores import session_mark, sqlite_file
from dilithion_ws.stores.session_mark import SessionMark, invalidate
from dilithion_ws.stores.sqlite_file import SqliteFile
from dilithion_ws.stores.sqlite_store import SqliteStore
from dilithion_ws.util.files import open_private
from dilithion_ws.util.position import Position

from ..support import wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import block, events, subscribe

FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep marks that are made elsewhere out of the machine's own folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def publish(server: WebSocketServer, topic: str, *numbers: int) -> Position:
    """Publish events, and return the position after them."""
    log = server.events.topic(topic).log
    for n in numbers:
        server.publish(topic, {"n": n})
        # Not by the position: a fault is seen before the topics have their new epochs.
        wait_for(lambda n=n: (entry := log.newest()) is not None and entry.data == b'{"n":%d}' % n)  # type: ignore[misc]
    return log.position


def fault(server: WebSocketServer) -> str:
    status = server.events.store_status
    assert status is not None
    return status.fault


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program uses the file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def stopped(server: WebSocketServer) -> None:
    assert server.stop(5)


def test_a_run_in_memory_ends_the_epochs_of_the_file(
    serve: ServerFactory, connect: ClientFactory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serve(f"sqlite:{path}")
    place = publish(first, "t", 1, 2, 3)
    stopped(first)
    with locked(path):
        second = serve(f"sqlite:{path}", store_retry=60)
        assert fault(second) == "in use"
        publish(second, "t", 4, 5)
        monkeypatch.setattr(SqliteStore, "_return_to_file", lambda self: None)  # as if it were killed
        stopped(second)
    third = serve(f"sqlite:{path}")
    publish(third, "t", 6)
    reply = subscribe(connect(third), "t", since=place._asdict())
    assert (reply["recovered"], reply["reason"]) == (False, "epoch"), "4 and 5 are gone"


def test_at_its_end_a_run_in_memory_goes_to_the_file_if_that_is_possible(serve: ServerFactory, path: Path) -> None:
    stopped(serve(f"sqlite:{path}"))
    with locked(path):
        server = serve(f"sqlite:{path}", store_retry=60)
        place = publish(server, "t", 1, 2)
    stopped(server)
    assert serve(f"sqlite:{path}").events.topic("t").log.position == place


def test_a_return_to_the_file_is_whole_or_nothing(
    serve: ServerFactory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(f"sqlite:{path}", store_retry=0.2)
    original, tries = SqliteStore._write_topic, []

    def write(self: SqliteStore, file: SqliteFile, topic: Any) -> None:
        tries.append(topic.name)
        if topic.name == "t":  # the last of them
            raise FULL
        original(self, file, topic)

    monkeypatch.setattr(SqliteStore, "_insert", lambda *args: (_ for _ in ()).throw(FULL))
    monkeypatch.setattr(SqliteStore, "_write_topic", write)
    server.publish("blocks", block(1))
    server.publish("t", {"n": 1})
    wait_for(lambda: fault(server) == "full" and tries.count("t") >= 2)
    log = server.events.topic("blocks").log
    with sqlite3.connect(path) as db:
        wait_for(lambda: db.execute("SELECT count(*) FROM topics WHERE epoch = ?", (log.position.epoch,)).fetchone())
        assert db.execute("SELECT count(*) FROM topics WHERE epoch = ?", (log.position.epoch,)).fetchone() == (0,)
    db.close()


def test_topics_that_were_not_used_yet_are_part_of_a_fault(
    serve: ServerFactory, connect: ClientFactory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serve(f"sqlite:{path}")
    place = publish(first, "user/alice", 1, 2)
    stopped(first)
    server = serve(f"sqlite:{path}", store_retry=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_insert", lambda *args: (_ for _ in ()).throw(FULL))
        patch.setattr(SqliteStore, "_return_to_file", lambda self: None)
        server.publish("t", {"n": 1})
        wait_for(lambda: fault(server) == "full")
        assert server.events.topic("user/alice").log.position.epoch != place.epoch
    wait_for(lambda: fault(server) == "")
    client = connect(server)
    begin = subscribe(client, "t")
    for n in (2, 3):
        server.publish("user/alice", {"n": n})
        server.publish("t", {"n": n})
    assert [(one["epoch"], one["result"]["n"]) for one in events(client, 2)] == [
        (begin["epoch"], 2),
        (begin["epoch"], 3),
    ]


def test_a_log_that_does_not_take_an_event_says_so_and_the_others_go_on(
    serve: ServerFactory, connect: ClientFactory, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(f"sqlite:{path}")
    server.topic("other")
    publish(server, "other", 1)
    clients = {name: connect(server) for name in ("t", "other")}
    for name, client in clients.items():
        subscribe(client, name)
    server.events.append(server.events.topic("other"), b"1")  # so that the number that the store gives is taken
    assert events(clients["other"], 1)[0]["seq"] == 2
    server.publish("other", {"n": 2})
    server.publish("t", {"n": 3})
    assert events(clients["t"], 1)[0]["result"] == {"n": 3}
    assert events(clients["other"], 1)[0]["error"]["data"]["reason"] == "epoch"
    assert "an event of other is lost" in caplog.text
    assert fault(server) == ""


@pytest.mark.parametrize("required", [False, True])
def test_a_start_on_a_nearly_full_disk(
    serve: ServerFactory, path: Path, monkeypatch: pytest.MonkeyPatch, required: bool
) -> None:
    monkeypatch.setattr(SqliteFile, "save_topic", lambda *args: (_ for _ in ()).throw(FULL))
    if required:
        with pytest.raises(ConfigError, match="disk is full"):
            serve(f"sqlite:{path}", store_required=True)
    else:
        server = serve(f"sqlite:{path}", store_retry=0.2)
        assert fault(server) == "full"
        publish(server, "t", 1)
    monkeypatch.undo()
    if required:
        assert fault(serve(f"sqlite:{path}")) == "", "the failed start has closed the file"
    else:
        wait_for(lambda: fault(server) == "")


def test_a_damaged_file_that_cannot_be_set_aside_is_a_fault_and_no_end(
    serve: ServerFactory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"this is not a database" * 100)
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    server = serve(f"sqlite:{path}", store_retry=0.2)
    assert fault(server) == "permissions"
    publish(server, "t", 1)
    monkeypatch.setattr(os, "replace", replace)
    wait_for(lambda: fault(server) == "")
    publish(server, "t", 2)


def test_a_file_whose_last_events_did_not_reach_the_disk(
    serve: ServerFactory, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power fails soon after a start: what the disk has is the main file, which must not say that it is whole."""
    first = serve(f"sqlite:{path}")
    publish(first, "t", 1)
    stopped(first)
    server = serve(f"sqlite:{path}")
    place = publish(server, "t", 2, 3)
    rest = tmp_path / "rest.db"
    shutil.copy(path, rest)
    shutil.copy(f"{path}-session", f"{rest}-session")
    stopped(server)
    monkeypatch.setattr(sqlite_file, "_boot", lambda: "another boot")
    assert serve(f"sqlite:{rest}").events.topic("t").log.position.epoch != place.epoch


def test_a_stop_with_events_in_the_queue_ends_their_epoch(
    serve: ServerFactory, path: Path, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    server = serve(f"sqlite:{path}")
    server.topic("other")
    other = publish(server, "other", 1)
    place = publish(server, "t", 1)
    original = SqliteStore._store

    def slow(self: SqliteStore, file: SqliteFile, queued: Any) -> Any:
        gate.wait(20)
        return original(self, file, queued[:1]) if len(queued) == 1 else original(self, file, queued)

    monkeypatch.setattr(SqliteStore, "_store", slow)
    monkeypatch.setattr("dilithion_ws.stores.sqlite_store._BATCH", 1)
    for n in range(2, 50):
        server.publish("t", {"n": n})
    threading.Timer(0.3, gate.set).start()
    server.stop(0.1)
    wait_for(lambda: server.events._store._thread is None or not server.events._store._thread.is_alive())
    monkeypatch.undo()
    again = serve(f"sqlite:{path}")
    again.topic("other")
    assert again.events.topic("t").log.position.epoch != place.epoch
    assert again.events.topic("other").log.position == other


def test_an_older_copy_of_a_file_is_recognised(serve: ServerFactory, path: Path, tmp_path: Path) -> None:
    first = serve(f"sqlite:{path}")
    publish(first, "t", 1)
    stopped(first)
    copy = shutil.copy(path, tmp_path / "copy.db")
    second = serve(f"sqlite:{path}")
    place = publish(second, "t", 2)
    stopped(second)
    shutil.copy(copy, path)
    assert serve(f"sqlite:{path}").events.topic("t").log.position.epoch != place.epoch


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_file_that_is_not_in_its_place_any_more(serve: ServerFactory, path: Path, change: str) -> None:
    server = serve(f"sqlite:{path}", store_retry=0.2)
    before = publish(server, "t", 1)
    path.unlink()
    if change == "replaced":
        path.write_bytes(b"")
    log = server.events.topic("t").log
    wait_for(lambda: log.position.epoch != before.epoch)
    wait_for(lambda: fault(server) == "")
    after = publish(server, "t", 2)
    stopped(server)
    assert serve(f"sqlite:{path}").events.topic("t").log.position == after


def test_where_nothing_can_be_written_the_mark_is_made_elsewhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = SqliteFile(str(path))
    with file.transaction():
        file.save_topic("t", "e", 5, 6)
    file.close(clean=True)
    original = open_private

    def read_only(name: str, flags: int) -> int:
        if name.endswith("-session"):
            raise OSError(30, "Read-only file system")
        return original(name, flags)

    with monkeypatch.context() as patch:
        patch.setattr(session_mark, "open_private", read_only)
        invalidate(str(path))
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    again = SqliteFile(str(path))
    assert again.logs == {}
    again.close(clean=True)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_clock_that_was_set_back_makes_no_gap(path: Path) -> None:
    file = SqliteFile(str(path))
    with file.transaction():
        for seq, at in ((1, 9000.0), (2, 9001.0), (3, 1000.0), (4, 1001.0)):
            file.add_entry("user/a", "e", seq, at, b"{}")
        file.save_topic("user/a", "e", 4, 1)
    file.close(clean=True)
    again = SqliteFile(str(path))
    again.forget_old("user/", 8000.0, 10)
    again.close(clean=True)
    last = SqliteFile(str(path))
    assert (last.damaged, last.logs["user/a"].head) == (0, 4)
    last.close(clean=True)


def test_a_copy_of_the_last_run_is_recognised(serve: ServerFactory, path: Path, tmp_path: Path) -> None:
    """It was made while the server ran, and is put back after a clean stop."""
    server = serve(f"sqlite:{path}")
    publish(server, "t", 1)
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", tmp_path / f"copy{ending}")
    place = publish(server, "t", 2)
    stopped(server)
    for ending in ("", "-wal"):
        shutil.copy(tmp_path / f"copy{ending}", f"{path}{ending}")
    assert serve(f"sqlite:{path}").events.topic("t").log.position.epoch != place.epoch


def test_a_folder_that_is_away_for_a_while(serve: ServerFactory, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    server = serve(f"sqlite:{folder / 'events.db'}", store_retry=0.2)
    place = publish(server, "t", 1)
    folder.rename(tmp_path / "elsewhere")
    wait_for(lambda: fault(server) == "away")
    publish(server, "t", 2)
    stopped(server)
    (tmp_path / "elsewhere").rename(folder)
    assert serve(f"sqlite:{folder / 'events.db'}").events.topic("t").log.position.epoch != place.epoch


def test_a_second_server_leaves_the_file_of_the_first_as_it_is(serve: ServerFactory, path: Path) -> None:
    first = serve(f"sqlite:{path}")
    place = publish(first, "t", 1)
    second = serve(f"sqlite:{path}", store_retry=60)
    assert fault(second) == "in use"
    stopped(second)
    stopped(first)
    assert serve(f"sqlite:{path}").events.topic("t").log.position == place


def test_a_start_that_is_interrupted_continues_the_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SqliteFile(str(path))
    with file.transaction():
        file.save_topic("t", "e", 5, 6)
    file.close(clean=True)
    original, writes = SessionMark.write, []

    def write(self: SessionMark, *sessions: str) -> None:
        writes.append(sessions)
        if len(writes) in (2, 3):  # after the file was changed, and before it
            raise KeyboardInterrupt
        original(self, *sessions)

    monkeypatch.setattr(SessionMark, "write", write)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            SqliteFile(str(path))
    monkeypatch.undo()
    again = SqliteFile(str(path))
    assert again.logs["t"].head == 5
    again.close(clean=True)


def test_a_return_that_is_interrupted_leaves_a_file_that_does_not_count(path: Path) -> None:
    file = SqliteFile(str(path))
    with file.transaction():
        file.save_topic("t", "e", 5, 6)
    file.give_up()
    returning = SqliteFile(str(path), is_obsolete=True)
    returning.close(clean=False)
    again = SqliteFile(str(path))
    assert again.logs == {}
    again.close(clean=True)


def test_users_that_were_forgotten_while_the_server_did_not_run_stay_so(serve: ServerFactory, path: Path) -> None:
    server = serve(f"sqlite:{path}")
    publish(server, "user/alice", 1)
    stopped(server)
    server.events.forget_user("alice")
    server.start()
    assert server.events.topic("user/alice").log.position.seq == 0
    stopped(server)


def test_a_mark_that_is_not_a_file_of_ours_is_not_followed(serve: ServerFactory, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    Path(f"{path}-session").symlink_to(other)
    server = serve(f"sqlite:{path}", store_retry=60)
    assert fault(server) != ""
    publish(server, "t", 1)
    stopped(server)
    assert other.read_text() == "mine"


def test_what_somebody_puts_among_the_temporary_files_does_no_harm(serve: ServerFactory, path: Path) -> None:
    first = serve(f"sqlite:{path}")
    place = publish(first, "t", 1)
    stopped(first)
    Path(session_mark._elsewhere(str(path))).mkdir()
    assert serve(f"sqlite:{path}").events.topic("t").log.position == place


def test_a_fact_without_a_value_is_damage(path: Path, serve: ServerFactory) -> None:
    stopped(serve(f"sqlite:{path}"))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = NULL WHERE name = 'version'")
    server = serve(f"sqlite:{path}")
    publish(server, "t", 1)


def test_events_between_a_loss_and_its_new_epoch_are_kept(
    serve: ServerFactory, connect: ClientFactory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(f"sqlite:{path}", event_backlog=1)
    client = connect(server)
    old = subscribe(client, "t")["epoch"]
    original = SqliteStore._start_new_epoch
    blocked, go_on = threading.Event(), threading.Event()

    def start(self: SqliteStore, topic: Any, **options: Any) -> None:
        original(self, topic, **options)
        server.publish("t", {"n": "between"})

    monkeypatch.setattr(SqliteStore, "_start_new_epoch", start)
    insert = SqliteStore._insert
    monkeypatch.setattr(SqliteStore, "_insert", lambda *args: (blocked.set(), go_on.wait(10), insert(*args))[2])
    server.publish("t", {"n": 1})
    assert blocked.wait(10)
    for n in range(2, 9):
        server.publish("t", {"n": n})
    go_on.set()
    seen = events(client, 1)[0]
    while "error" not in seen:
        seen = events(client, 1)[0]
    assert seen["error"]["data"]["reason"] == "epoch"
    log = server.events.topic("t").log
    wait_for(lambda: log.position.epoch != old and log.position.seq >= 1)
    assert server.events.topic("t").since(log.position.epoch, 0) == [{"n": "between"}]
