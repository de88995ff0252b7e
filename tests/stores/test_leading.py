"""One of several servers publishes each event exactly once, whichever of them dies, sleeps or is cut off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError, RpcTable, WebSocketServer
from dilithion_ws.client import Client, EventsLostError
from dilithion_ws.events.log import EventLog, Retention

from ..support import Clock, RedisServer, needs_redis, wait_for
from ..support.configs import make_config
from ..support.fixtures import ServerFactory

TOPICS = ("blocks", "mempool")
PATIENCE = 0.6


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    servers: list[WebSocketServer] = []

    def serve(store: str, **options: Any) -> WebSocketServer:
        server = WebSocketServer(RpcTable(), make_config(event_store=store, **options))
        server.topic("t", permission="READ_BLOCKCHAIN", retention=Retention(100, 60.0, 100_000))
        servers.append(server.start())
        wait_for(lambda: not any(topic.availability.value for topic in server.events.topics()))
        return server

    yield serve
    for server in servers:
        server.stop(2)


def numbers(server: WebSocketServer) -> list[Any]:
    """What a topic's log has, as any client may read it."""
    log = server.events.topic("t").log
    entries, _ = log.read(log.position._replace(seq=log.first - 1), 10**6)
    return [json.loads(entry.data)["n"] for entry in entries]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_server_by_itself_always_leads(kind: str, serve: ServerFactory, tmp_path: Path) -> None:
    server = serve("memory" if kind == "memory" else f"sqlite:{tmp_path / 'events.db'}")
    leadership = server.events.lead(["t"])
    assert leadership.term == 1
    server.publish("t", {"n": 1})
    wait_for(lambda: numbers(server) == [1])


@needs_redis
def test_one_leads_and_what_the_others_publish_does_not_count(serve: ServerFactory, redis_server: RedisServer) -> None:
    servers = [serve(redis_server.url, leader_patience=PATIENCE) for _ in range(3)]
    terms = [server.events.lead(["t"]) for server in servers]
    wait_for(lambda: any(one.term for one in terms))
    for _ in range(20):
        for at, server in enumerate(servers):
            server.publish("t", {"n": at})
    leader = next(at for at, one in enumerate(terms) if one.term)
    wait_for(lambda: all(len(numbers(server)) == 20 for server in servers))
    assert numbers(servers[0]) == [leader] * 20
    assert sum(bool(one.term) for one in terms) == 1


@needs_redis
def test_the_next_leader_has_all_that_the_last_one_published(serve: ServerFactory, redis_server: RedisServer) -> None:
    first = serve(redis_server.url, leader_patience=PATIENCE)
    leading = first.events.lead(["t"])
    wait_for(lambda: leading.term)
    second = serve(redis_server.url, leader_patience=PATIENCE)
    waiting = second.events.lead(["t"])
    for n in range(50):
        first.publish("t", {"n": n})
    assert waiting.term == 0
    first.stop(2)  # resigns, so that the lease need not expire
    wait_for(lambda: waiting.term, 5)
    assert numbers(second) == list(range(50))


@needs_redis
def test_a_former_leader_writes_nothing(
    serve: ServerFactory, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was cut off with events in its backlog, and comes back when another leads."""

    first = serve(redis_server.url, leader_patience=PATIENCE)
    leading = first.events.lead(["t"])
    wait_for(lambda: leading.term)
    first.publish("t", {"n": "before"})
    second = serve(redis_server.url, leader_patience=PATIENCE)
    waiting = second.events.lead(["t"])
    wait_for(lambda: numbers(second) == ["before"])

    cut, store = threading.Event(), first.events._store
    cut.set()
    whole = store._endpoint._client

    class Cut:
        """What a cable does that has been pulled."""

        def __getattr__(self, name: str) -> Any:
            if cut.is_set():
                raise ConnectionError("cut off")
            return getattr(whole, name)

    store._endpoint._client = Cut()
    assert leading.term
    for _ in range(5):
        first.publish("t", {"n": "stale"})
    wait_for(lambda: waiting.term)
    assert not leading.term
    first.publish("t", {"n": "stale"})
    second.publish("t", {"n": "after"})
    wait_for(lambda: numbers(second)[-1] == "after")
    before = numbers(second)
    cut.clear()
    wait_for(lambda: len(store._queue) == 0)
    wait_for(lambda: numbers(first) == before)
    assert numbers(second) == before
    assert before[-1] == "after"
    assert "stale" not in before[before.index("after") :]


@needs_redis
def test_a_term_that_comes_back_is_another(serve: ServerFactory, redis_server: RedisServer) -> None:
    server = serve(redis_server.url, leader_patience=PATIENCE)
    leading = server.events.lead(["t"])
    before = wait_for(lambda: leading.term)
    redis_server.kill()
    wait_for(lambda: not leading.term)
    redis_server.start()
    assert wait_for(lambda: leading.term) != before


@needs_redis
def test_a_server_tries_to_lead_once(serve: ServerFactory, redis_server: RedisServer) -> None:
    server = serve(redis_server.url)
    server.events.lead(["t"])
    with pytest.raises(ConfigError, match="tries to lead already"):
        server.events.lead(["t"])


@pytest.mark.parametrize("kind", ["memory", "sqlite", pytest.param("redis", marks=needs_redis)])
def test_a_new_epoch_is_reported_to_the_readers_of_a_topic(
    kind: str, serve: ServerFactory, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    store = {"memory": "memory", "sqlite": f"sqlite:{tmp_path / 'events.db'}"}.get(kind)
    server = serve(store or request.getfixturevalue("redis_server").url)
    with Client(server.url) as client:
        subscription = client.subscribe("t")
        server.publish("t", {"n": 1})
        first = subscription.get(5)
        assert first is not None
        assert first.data == {"n": 1}
        server.events.start_new_epoch("t")
        server.publish("t", {"n": 2})
        with pytest.raises(EventsLostError):
            subscription.get(5)
        wait_for(lambda: numbers(server) == [2])
        assert server.events.topic("t").log.position.seq == 1


def test_the_newest_event_of_a_node_s_topic_is_kept_whatever_its_age() -> None:
    clock = Clock()
    log = EventLog(Retention(10, 60.0, 1000, min_entries=1), clock, "e")
    log.append(b"1")
    log.append(b"2")
    clock.now += 1000
    assert log.first == 2
    entry = log.newest()
    assert entry is not None
    assert entry.data == b"2"
