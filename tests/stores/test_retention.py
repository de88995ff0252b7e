"""How long the events of a topic are kept: minutes of a busy topic, in bounded memory, also in Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from dilithion_ws import Limits
from dilithion_ws.client import Position

from ..support import RedisServer, needs_redis, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import events, subscribe

MIB = 1 << 20


def test_the_default_holds_minutes_of_a_busy_topic() -> None:
    history = Limits().history
    rate, size = 400, 300  # events per second, and bytes of each
    seconds = min(history.history_entries / rate, history.history_size / (rate * size), history.history_age)
    assert seconds > 180


@needs_redis
def test_a_pause_of_redis_at_a_high_rate_loses_nothing(
    serve: ServerFactory, connect: ClientFactory, redis_server: RedisServer
) -> None:
    """2,000 events, which is what a topic with 400 events per second has in 5 seconds, wait and are then resumed."""
    server = serve(redis_server.url, store_unavailable_grace=0.3)
    client = connect(server)
    subscribe(client, "t")
    server.publish("t", {"n": 0})
    (first,) = events(client, 1)
    redis_server.kill()
    for n in range(1, 2001):
        server.publish("t", {"n": n})
    assert client.answer()["params"]["error"]["code"] == -32009
    redis_server.start()
    wait_for(lambda: server.events.topic("t").log.position.seq == 2001, 20)
    reply = subscribe(client, "t", since={"epoch": first["epoch"], "seq": first["seq"]})
    assert reply["recovered"] is True
    assert [event["result"]["n"] for event in events(client, 2000)] == list(range(1, 2001))


@needs_redis
def test_a_long_log_is_read_from_redis_in_pages(serve: ServerFactory, redis_server: RedisServer) -> None:
    first = serve(redis_server.url)
    for n in range(3000):
        first.publish("t", {"n": n})
    wait_for(lambda: first.events.topic("t").log.position.seq == 3000, 20)
    second = serve(redis_server.url)
    log = second.events.topic("t").log
    assert (log.first, log.position) == (1, first.events.topic("t").log.position)
    assert second.events.topic("t").since(log.position.epoch, 0) == [{"n": n} for n in range(3000)]


@needs_redis
@pytest.mark.parametrize("lag", [0.0, 60.0])
def test_the_memory_of_a_topic_in_redis_is_bounded(serve: ServerFactory, redis_server: RedisServer, lag: float) -> None:
    server = serve(redis_server.url, history_size=MIB, history_lag=lag, event_backlog_size=MIB)
    direct = redis.Redis.from_url(redis_server.url)
    most = 0
    for number in range(100):
        seq = server.events.topic("t").log.position.seq
        server.publish("t", {"pad": "x" * 100_000})
        wait_for(lambda seq=seq: server.events.topic("t").log.position.seq == seq + 1)  # type: ignore[misc]
        if number % 10 == 9:
            found = direct.memory_usage("dilithion-ws:t:stream")
            assert isinstance(found, int)
            most = max(most, found)
    direct.close()
    bound = (2 if lag else 1) * MIB
    assert bound / 2 < most < 1.5 * bound


def test_a_position_of_some_minutes_ago_is_resumed_after_a_restart(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    first = serve(store)
    begin = first.events.topic("t").log.position
    for n in range(5000):
        first.publish("t", {"n": n})
    wait_for(lambda: first.events.topic("t").log.position.seq == 5000, 30)
    first.stop(5)
    client = connect(serve(store))
    assert subscribe(client, "t", since=Position(*begin)._asdict())["recovered"] is True
    assert [event["result"]["n"] for event in events(client, 5000)] == list(range(5000))
