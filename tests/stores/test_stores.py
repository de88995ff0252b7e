"""Events that outlive a server: exactly once and in order, whatever dies, in memory, SQLite and Redis."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError, EventError, RpcTable, WebSocketServer
from dilithion_ws.client import Client, EventsLostError, Position
from dilithion_ws.events.topic import Availability
from dilithion_ws.stores.sqlite_file import SqliteFile
from dilithion_ws.stores.sqlite_store import SqliteStore

from ..support import RedisServer, free_port, needs_redis, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import block, events, subscribe

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The setting for each kind of store."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'events.db'}"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return "memory"


@pytest.fixture
def untraced() -> Iterator[None]:
    """Threads that start meanwhile are not traced for coverage: four hundred of them would be traced for minutes."""
    hook = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    threading.settrace(hook)  # type: ignore[arg-type]


class Follower(threading.Thread):
    """A client that writes down what it sees, and cuts its own connection now and then."""

    def __init__(self, url: str, seed: int, *, slow: bool) -> None:
        super().__init__(daemon=True)
        self.client = Client(url, backoff=(0.01, 0.1), max_queued_events=200, timeout=60.0)
        self.rng = random.Random(seed)
        self.slow = slow
        self.seen: list[tuple[str, int, Any]] = []
        self.lost: list[EventsLostError] = []
        self.stopping = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            subscription = self.client.subscribe("t")
            self.begin = subscription.position
            while True:
                try:
                    event = subscription.get()
                except EventsLostError as error:
                    self.lost.append(error)
                    continue
                if event is None:
                    return
                assert event.epoch is not None
                assert event.seq is not None
                self.seen.append((event.epoch, event.seq, event.data))
                if self.slow:
                    self.stopping.wait(0.002)
                if self.rng.random() < 0.002:
                    wire = self.client._thread._connection
                    if wire is not None:
                        wire._abort()
        except BaseException as failure:
            self.failure = failure

    def check(self) -> None:
        """What it saw is without a hole, or says where one is; and nothing came twice."""
        assert self.failure is None
        holes = {(error.last, error.now) for error in self.lost}
        assert self.begin is not None
        assert isinstance(self.begin, Position)
        epoch, last = self.begin
        for seen_epoch, seq, _ in self.seen:
            if seen_epoch != epoch or seq != last + 1:
                assert any(
                    tuple(before) == (epoch, last) and tuple(after) == (seen_epoch, seq - 1) for before, after in holes
                ), f"{epoch}:{last} is followed by {seen_epoch}:{seq} without an error ({holes})"
            epoch, last = seen_epoch, seq


@pytest.mark.load
@pytest.mark.timeout(
    180
)  # two hundred clients are four hundred threads of Python, and more slowly when they are traced
def test_exactly_once_and_in_order(serve: ServerFactory, store: str) -> None:
    """4 publishers at full speed, 200 clients that cut their connections at random, 50 of them slow."""
    server = serve(store, history_entries=20_000, event_backlog=50_000)
    followers = [Follower(server.url, seed, slow=seed % 4 == 0) for seed in range(200)]
    for follower in followers:
        follower.start()
    wait_for(lambda: len(server.events.cursors.all()) == 200, 30)

    def publish(name: int) -> None:
        for number in range(60):
            server.publish("t", {"publisher": name, "number": number})

    publishers = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    wait_for(lambda: server.events.topic("t").log.position.seq == 240, 30)
    wait_for(lambda: all(follower.seen and follower.seen[-1][1] == 240 for follower in followers), 120)
    for follower in followers:
        follower.client.close()
    for follower in followers:
        follower.join(10)
        follower.check()
        assert follower.lost == [], "the log has kept all of it"
        for name in range(4):
            numbers = [data["number"] for _, _, data in follower.seen if data["publisher"] == name]
            assert numbers == list(range(60)), "each publisher's events in its order"
    assert len({json.dumps(follower.seen) for follower in followers}) == 1, "one order for all"


CHILD = """
import itertools, sys, threading
from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

server = WebSocketServer(RpcTable(), Config(port=int(sys.argv[1]), event_store=sys.argv[2],
                         limits=Limits.from_names(history_entries=50_000, ping_interval=5)))
server.topic("t")
server.start()
print("ready", flush=True)
turn = threading.Event()
for number in itertools.count():
    server.publish("t", {"life": sys.argv[3], "number": number})
    turn.wait(0.004)
"""


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_a_server_that_is_killed_again_and_again(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """kill -9 while it publishes: clients resume, and no event is taken back or renumbered."""

    store = f"sqlite:{tmp_path / 'events.db'}"
    if kind == "redis":
        store = request.getfixturevalue("redis_server").url
    port = free_port()
    followers = [Follower(f"ws://127.0.0.1:{port}", seed, slow=seed % 4 == 0) for seed in range(20)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for life in range(4):
        command = [sys.executable, "-c", CHILD, str(port), store, str(life)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            if life == 0:
                for follower in followers:
                    follower.start()
            wait_for(
                lambda life=life: all(
                    sum(data["life"] == str(life) for _, _, data in list(follower.seen)) > 100 for follower in followers
                ),
                90,
            )
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
    for follower in followers:
        follower.client.close()
    by_seq: dict[tuple[str, int], Any] = {}
    for follower in followers:
        follower.join(10)
        follower.check()
        assert follower.lost == []
        for epoch, seq, data in follower.seen:
            assert by_seq.setdefault((epoch, seq), data) == data, "one number, one event"


def test_history_is_there_after_a_restart(serve: ServerFactory, connect: ClientFactory, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    first = serve(store)
    client = connect(first)
    reply = subscribe(client)
    for height in (1, 2, 3):
        first.publish("blocks", block(height))
    first.send_to_user("alice", {"n": 1})
    assert len(events(client, 3)) == 3
    client.close()
    assert first.stop(5)
    assert os.stat(tmp_path / "events.db").st_mode & 0o777 == 0o600
    second = serve(store)
    again = connect(second)
    assert subscribe(again, since={"epoch": reply["epoch"], "seq": 1})["recovered"] is True
    assert [params["result"] for params in events(again, 2)] == [block(2), block(3)]
    second.publish("blocks", block(4))
    assert events(again, 1)[0]["seq"] == 4
    assert second.events.topic("user/alice").log.position.seq == 1


def test_a_damaged_file_is_set_aside(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"this is not a database" * 1000)
    server = serve(f"sqlite:{path}")
    assert "is damaged" in caplog.text
    assert next(iter(tmp_path.glob("events.db.damaged-*"))).read_bytes().startswith(b"this is not a database")
    client = connect(server)
    subscribe(client)
    server.publish("blocks", block(1))
    assert events(client, 1)[0]["seq"] == 1


def test_a_file_damaged_in_the_middle_is_noticed_at_the_start(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    server = serve(f"sqlite:{path}", history_entries=5000)
    for number in range(3000):
        server.publish("t", {"n": number})
    wait_for(lambda: server.events.topic("t").log.position.seq == 3000)
    assert server.stop(5)
    data = bytearray(path.read_bytes())
    assert len(data) > 100_000
    data[40_000:80_000] = os.urandom(40_000)
    path.write_bytes(data)
    again = serve(f"sqlite:{path}")
    assert again.events.topic("t").log.position.seq == 0
    assert list(tmp_path.glob("events.db.damaged-*"))


def test_two_servers_cannot_use_one_file(serve: ServerFactory, tmp_path: Path) -> None:
    serve(f"sqlite:{tmp_path / 'events.db'}")
    with pytest.raises(ConfigError, match="can't be used: database is locked"):
        serve(f"sqlite:{tmp_path / 'events.db'}", store_required=True)
    with pytest.raises(ConfigError, match="rpcwebsocketeventstore"):
        serve(f"sqlite:{tmp_path / 'none' / 'events.db'}", store_required=True)


@pytest.mark.parametrize("clean", [True, False])
def test_a_crash_of_the_machine_begins_new_epochs(
    serve: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    path = tmp_path / "events.db"
    server = serve(f"sqlite:{path}")
    server.publish("t", {"n": 1})
    wait_for(lambda: server.events.topic("t").log.position.seq == 1)
    before = server.events.topic("t").log.position
    assert server.stop(5)
    if not clean:
        with sqlite3.connect(path) as db:
            db.execute("UPDATE meta SET value = '0' WHERE name = 'clean'")
        db.close()
    monkeypatch.setattr("dilithion_ws.stores.sqlite_file._boot", lambda: "another")
    again = serve(f"sqlite:{path}")
    assert (again.events.topic("t").log.position == before) is clean


def test_a_file_that_cannot_be_written_any_more(
    serve: ServerFactory,
    connect: ClientFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Events go on in memory, under new epochs, so that the file stays true."""
    store = f"sqlite:{tmp_path / 'events.db'}"
    server = serve(store)
    client = connect(server)
    old = subscribe(client, "t")
    server.publish("t", {"n": 1})
    assert events(client, 1)[0]["seq"] == 1

    def full(*args: Any) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteStore, "_insert", full)
    server.publish("t", {"n": 2})
    error = events(client, 1)[0]["error"]["data"]
    following = error.pop("next")
    assert error == {"epoch": old["epoch"], "seq": 1, "reason": "epoch"}
    wait_for(lambda: server.events.topic("t").log.position.seq == 1)
    assert "is kept in memory" in caplog.text or "are kept in memory only" in caplog.text
    again = connect(server)
    reply = subscribe(again, "t", since={"epoch": old["epoch"], "seq": 1})
    assert (reply["recovered"], reply["reason"], reply["next"]) == (False, "epoch", following)
    server.publish("t", {"n": 3})
    assert events(again, 1)[0]["result"] == {"n": 3}
    third = connect(server)
    assert subscribe(third, "t", since=following)["recovered"] is True
    assert [event["result"] for event in events(third, 2)] == [{"n": 2}, {"n": 3}]
    third.close()
    client.close()
    again.close()
    monkeypatch.undo()
    assert server.stop(5)
    restarted = serve(store)
    assert tuple(restarted.events.topic("t").log.position) == (following["epoch"], 2), "written at the stop"


def test_a_store_that_does_not_keep_up_loses_nothing_silently(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    original = SqliteStore._insert
    monkeypatch.setattr(SqliteStore, "_insert", lambda *args: gate.wait(20) and original(*args))
    server = serve(f"sqlite:{tmp_path / 'events.db'}", event_backlog=10)
    client = connect(server)
    old = subscribe(client, "t")
    for number in range(1, 31):
        server.publish("t", {"n": number})
    gate.set()
    seen = 0  # how many of the ten stored events were sent before the new epoch
    while "error" not in (params := events(client, 1)[0]):
        seen += 1
        assert params["result"]["n"] == params["seq"] == seen <= 10
    assert params["error"]["data"] == {"epoch": old["epoch"], "seq": seen, "reason": "epoch"}
    assert subscribe(client, "t")["epoch"] != old["epoch"]
    server.publish("t", {"n": 31})
    assert events(client, 1)[0]["seq"] == 1


def test_a_server_whose_file_is_gone_starts_new_epochs(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    server = serve(f"sqlite:{path}")
    for number in range(3):
        server.publish("t", {"n": number})
    wait_for(lambda: server.events.topic("t").log.position.seq == 3)
    before = server.events.topic("t").log.position
    assert server.stop(5)
    path.unlink()
    server.start()
    server.publish("t", {"n": 4})
    wait_for(lambda: server.events.topic("t").log.position.seq == 1)
    assert server.events.topic("t").log.position.epoch != before.epoch


def test_epochs_of_topics_without_events_survive_a_restart_too(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(f"sqlite:{tmp_path / 'events.db'}")
    before = {topic.name: topic.log.position for topic in server.events.topics()}
    assert server.stop(5)
    again = serve(f"sqlite:{tmp_path / 'events.db'}")
    assert {topic.name: topic.log.position for topic in again.events.topics()} == before


def test_a_users_topic_that_gave_way_leaves_nothing_in_the_file(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    server = serve(f"sqlite:{path}", user_topics=3)
    for number in range(50):
        server.send_to_user(f"name{number}", {"n": number})
    server.send_to_user("name0", {"again": True})
    wait_for(lambda: server.events.topic("user/name0").log.position.seq == 1)
    with pytest.raises(EventError, match="is not a topic of a user"):
        server.send_to_user("\ud800", {})
    assert server.stop(5)
    with contextlib.closing(sqlite3.connect(path)) as db:
        names = {name for (name,) in db.execute("SELECT topic FROM entries")}
    assert len(names) <= 3
    assert "user/name0" in names


def test_a_fault_of_any_kind_does_not_end_delivery(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(f"sqlite:{tmp_path / 'events.db'}")
    monkeypatch.setattr(SqliteFile, "save_topic", lambda *args: 1 / 0)
    server.publish("t", {"n": 1})
    wait_for(lambda: server.events.topic("t").log.position.seq == 1)
    client = connect(server)
    subscribe(client, "t")
    server.publish("t", {"n": 2})
    assert events(client, 1)[0]["result"] == {"n": 2}


# Redis


@needs_redis
def test_a_redis_that_refuses_some_writes_loses_none(serve: ServerFactory, redis_server: RedisServer) -> None:
    """Its memory limit comes and goes in the middle of pipelines; subscribers receive an error meanwhile."""
    import redis

    server = serve(redis_server.url, store_unavailable_grace=0.2, event_backlog=100_000)
    with Client(server.url) as client, redis.Redis.from_url(redis_server.url) as direct:
        subscription = client.subscribe("t")
        turn = threading.Event()
        for number in range(600):
            if number % 150 == 75:
                direct.config_set("maxmemory", 1)
            if number % 150 == 149:
                turn.wait(0.3)
                direct.config_set("maxmemory", 0)
            server.publish("t", {"n": number})
        direct.config_set("maxmemory", 0)
        assert [subscription.get(30).data["n"] for _ in range(600)] == list(range(600))


def lost_or_next(subscription: Any) -> Any:
    """The next event, or the error that stands in its place."""
    try:
        return subscription.get(20)
    except EventsLostError as error:
        return error


@needs_redis
def test_a_loss_is_reported_although_reporting_fails_at_first(
    serve: ServerFactory, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dilithion_ws.stores.redis_store import RedisStore

    server = serve(redis_server.url, event_backlog=5)
    with Client(server.url) as client:
        subscription = client.subscribe("t")
        original, faults = RedisStore._replace_epoch, [OSError("not now"), OSError("nor now")]

        def replace_epoch(self: Any, *args: Any) -> None:
            if faults:
                raise faults.pop()
            original(self, *args)

        monkeypatch.setattr(RedisStore, "_replace_epoch", replace_epoch)
        store: Any = server.events._store
        with store._queue._changed:
            for number in range(20):
                server.publish("t", {"n": number})
        seen = 0
        while not isinstance(found := lost_or_next(subscription), EventsLostError):
            seen += 1
            assert found.data == {"n": seen - 1}
        assert found.reason == "epoch"
        assert faults == []


@needs_redis
def test_servers_share_logs_and_clients_resume_on_any(
    serve: ServerFactory, redis_server: RedisServer, connect: ClientFactory
) -> None:
    first, second = serve(redis_server.url), serve(redis_server.url)
    one, two = connect(first), connect(second)
    reply = subscribe(one)
    assert subscribe(two)["epoch"] == reply["epoch"]
    for height in range(1, 21):
        (first if height % 2 else second).publish("blocks", block(height))
    seen = events(one, 20)
    assert seen == events(two, 20), "one order on all servers"
    assert sorted(params["result"]["height"] for params in seen) == list(range(1, 21))
    one.close()
    moved = connect(second)
    assert subscribe(moved, since={"epoch": reply["epoch"], "seq": 15})["recovered"] is True
    assert events(moved, 5) == seen[15:]
    third = serve(redis_server.url)
    late = connect(third)
    assert subscribe(late, since={"epoch": reply["epoch"], "seq": 0})["recovered"] is True
    assert events(late, 20) == seen


@needs_redis
def test_redis_goes_away_and_comes_back(
    serve: ServerFactory, redis_server: RedisServer, connect: ClientFactory
) -> None:
    server = serve(redis_server.url, store_unavailable_grace=0.3)
    client = connect(server)
    reply = subscribe(client)
    server.publish("blocks", block(1))
    assert events(client, 1)[0]["seq"] == 1
    redis_server.kill()
    for height in range(2, 12):
        server.publish("blocks", block(height))
    error = events(client, 1)[0]["error"]
    assert error["code"] == -32009
    assert (error["data"]["epoch"], error["data"]["seq"]) == (reply["epoch"], 1)
    assert subscribe(client)["error"]["code"] == -32009
    redis_server.start()
    wait_for(lambda: server.events.topic("blocks").availability is Availability.AVAILABLE)
    assert subscribe(client, since={"epoch": reply["epoch"], "seq": 1})["recovered"] is True
    assert [params["result"]["height"] for params in events(client, 10)] == list(range(2, 12))


@needs_redis
def test_events_that_redis_has_not_taken_at_the_end_are_counted(
    serve: ServerFactory, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(redis_server.url, store_unavailable_grace=30.0)
    redis_server.kill()
    for height in (1, 2, 3):
        server.publish("blocks", block(height))
    server.stop(1)
    assert "Redis did not take all events before the end: 3 are lost" in caplog.text


@needs_redis
def test_a_short_absence_is_not_noticed_by_clients(serve: ServerFactory, redis_server: RedisServer) -> None:
    server = serve(redis_server.url, store_unavailable_grace=30.0)
    with Client(server.url) as client:
        subscription = client.subscribe("t")
        for number in range(1, 6):
            if number == 3:
                redis_server.kill()
                redis_server.start()
            server.publish("t", {"n": number})
        assert [subscription.get(20).data["n"] for _ in range(5)] == [1, 2, 3, 4, 5]


@needs_redis
def test_a_redis_that_has_lost_its_data_is_reported(serve: ServerFactory, redis_server: RedisServer) -> None:
    import redis

    server = serve(redis_server.url)
    with Client(server.url) as client, redis.Redis.from_url(redis_server.url) as direct:
        subscription = client.subscribe("t")
        server.publish("t", {"n": 1})
        assert subscription.get(10).seq == 1
        direct.flushall()
        with pytest.raises(EventsLostError, match="epoch"):
            subscription.get(20)
        wait_for(lambda: server.events.topic("t").in_use)
        server.publish("t", {"n": 2})
        assert subscription.get(10).data == {"n": 2}
        # Back in time: the head is lower than what clients have seen.
        server.publish("t", {"n": 3})
        assert subscription.get(10).data == {"n": 3}
        direct.set("dilithion-ws:t:head", 1)
        with pytest.raises(EventsLostError, match="epoch"):
            subscription.get(20)


@needs_redis
def test_a_server_starts_without_its_redis(
    serve: ServerFactory, redis_server: RedisServer, rpc: RpcTable, connect: ClientFactory
) -> None:
    redis_server.kill()
    with WebSocketServer(rpc, Config(event_store=redis_server.url)) as server:
        client = connect(server)
        assert client.call("getblockcount")["result"] == 840000
        assert subscribe(client)["error"]["code"] == -32009
        server.publish("blocks", block(1))
        redis_server.start()
        wait_for(lambda: server.events.topic("blocks").log.position.seq == 1)
        client.close()


def test_what_a_store_may_be() -> None:
    for text in ("disk", "sqlite:", "redis:", "mongodb://x"):
        with pytest.raises(ConfigError, match="it takes memory, sqlite:PATH, redis://"):
            Config(event_store=text)
