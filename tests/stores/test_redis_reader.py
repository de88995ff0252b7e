"""What other programs, people and faults do to the keys in Redis: one topic starts again, and the others go on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from dilithion_ws import WebSocketServer
from dilithion_ws.stores.archive import export_lines, import_lines, read_store, write_store

from ..support import RedisServer, free_port, needs_redis, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.redis_servers import running
from ..support.subscriptions import events, subscribe

pytestmark = needs_redis
STREAM, HEAD, EPOCH = (f"dilithion-ws:t:{kind}" for kind in ("stream", "head", "epoch"))


def publish(server: WebSocketServer, topic: str, *numbers: int) -> None:
    for n in numbers:
        server.publish(topic, {"n": n})


def at(server: WebSocketServer, topic: str, seq: int) -> None:
    wait_for(lambda: server.events.topic(topic).log.position.seq == seq)


def wrong_type(direct: Any) -> None:
    direct.set(STREAM, "x")


def wrong_type_of_epoch(direct: Any) -> None:
    direct.delete(EPOCH)
    direct.hset(EPOCH, "a", "b")


FAULTS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda direct: direct.xadd(STREAM, {"e": "other", "t": 1, "d": "{}"}, "2-0"), "expired"),
    (lambda direct: direct.xadd(STREAM, {"e": direct.get(EPOCH), "x": 1}, "2-0"), "expired"),
    (lambda direct: direct.xadd(STREAM, {"e": direct.get(EPOCH), "t": 1, "d": "{}", "c": "no"}, "2-0"), "expired"),
    (lambda direct: direct.set(EPOCH, b"\xff\xfe"), "epoch"),
    (lambda direct: direct.set(EPOCH, 'a"b'), "epoch"),
    (lambda direct: direct.set(HEAD, "many"), "epoch"),
    (lambda direct: direct.set(HEAD, 1 << 60), "epoch"),
    (lambda direct: direct.delete(HEAD), "epoch"),
    (lambda direct: direct.delete(HEAD, STREAM), "epoch"),
    (wrong_type, "epoch"),
    (wrong_type_of_epoch, "epoch"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=range(len(FAULTS)))
def test_what_is_wrong_with_one_topic_is_told_and_the_others_go_on(
    serve: ServerFactory,
    connect: ClientFactory,
    redis_server: RedisServer,
    fault: Callable[[Any], Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = serve(redis_server.url)
    server.topic("other")
    wait_for(lambda: not server.events.topic("other").availability.value)
    clients = {name: connect(server) for name in ("t", "other")}
    for name, client in clients.items():
        subscribe(client, name)
        publish(server, name, 1)
        assert events(client, 1)[0]["seq"] == 1
    with redis.Redis.from_url(redis_server.url) as direct:
        fault(direct)
        if reason == "expired":
            direct.set(HEAD, 2)
    publish(server, "other", 2)
    assert events(clients["other"], 1)[0]["result"] == {"n": 2}
    publish(server, "t", 3)
    assert events(clients["t"], 1)[0]["error"]["data"]["reason"] == reason
    reply = subscribe(clients["t"], "t")
    publish(server, "t", 4)
    found = events(clients["t"], 1)[0]
    while found["result"] != {"n": 4}:
        found = events(clients["t"], 1)[0]
    assert found["epoch"] == reply["epoch"]
    status = server.events.store_status
    assert status is not None
    assert status.fault == ""
    assert caplog.text.count("damaged") <= 3, "one line, and not one for each look"


def test_a_reader_without_the_right_to_read_is_a_fault(
    serve: ServerFactory, connect: ClientFactory, redis_server: RedisServer
) -> None:
    server = serve(redis_server.url, store_unavailable_grace=0.3)
    client = connect(server)
    subscribe(client, "t")
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.execute_command("ACL", "SETUSER", "default", "-xread")
        assert client.answer()["params"]["error"]["code"] == -32009
        status = server.events.store_status
        assert status is not None
        assert status.fault == "permissions"
        direct.execute_command("ACL", "SETUSER", "default", "+xread")
    wait_for(lambda: not server.events.topic("t").availability.value)


@pytest.mark.parametrize("appendonly", ["no", "yes"])
def test_an_older_copy_of_redis_is_not_continued_by_servers_that_start_then(
    serve: ServerFactory, tmp_path: Path, appendonly: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an append-only file, Redis comes back with its last snapshot. No server remembers what was after it."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with running(tmp_path, "--appendonly", appendonly, port=port) as process:
        server = serve(url)
        publish(server, "t", 1, 2)
        at(server, "t", 2)
        with redis.Redis(port=port) as direct:
            direct.save()
        if appendonly == "no":
            publish(server, "t", 3)
            at(server, "t", 3)
        before = server.events.topic("t").log.position
        process.kill()
        process.wait(10)
    server.stop(0)
    with running(tmp_path, "--appendonly", appendonly, port=port):
        after = serve(url).events.topic("t").log.position
        assert (after == before) is (appendonly == "yes")
        second = serve(url).events.topic("t").log.position
        assert second == after
    assert ("no append-only file" in caplog.text) is (appendonly == "no")


def test_a_user_without_the_right_to_ask_for_the_run_is_told(
    serve: ServerFactory, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.execute_command("ACL", "SETUSER", "default", "-info")
    server = serve(redis_server.url)
    publish(server, "t", 1)
    at(server, "t", 1)
    assert caplog.text.count("may not call INFO") == 1


def test_nothing_of_a_forgotten_user_is_left(serve: ServerFactory, redis_server: RedisServer) -> None:
    server = serve(redis_server.url)
    server.publish("user/alice", {"secret": 1})
    at(server, "user/alice", 1)
    server.events.forget_user("alice")
    with redis.Redis.from_url(redis_server.url) as direct:
        wait_for(lambda: not direct.exists("dilithion-ws:user/alice:stream"))
    wait_for(lambda: not server.events.topic("user/alice").availability.value)
    assert server.events.topic("user/alice").log.position.seq == 0


def test_topics_of_users_in_use_do_not_expire(
    serve: ServerFactory, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilithion_ws.stores.redis_reader._RENEWED_AFTER", 0.1)
    server = serve(redis_server.url)
    server.publish("user/alice", {"n": 1})
    at(server, "user/alice", 1)
    with redis.Redis.from_url(redis_server.url) as direct:
        for kind in ("epoch", "head", "stream"):
            direct.expire(f"dilithion-ws:user/alice:{kind}", 5)
        wait_for(lambda: min(direct.ttl(f"dilithion-ws:user/alice:{kind}") for kind in ("epoch", "head")) > 1000)


def test_the_age_of_events_is_measured_by_the_clock_of_redis(
    serve: ServerFactory, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = serve(redis_server.url)
    publish(first, "t", *range(100))
    at(first, "t", 100)
    import time

    monkeypatch.setattr(time, "time", lambda: 4e9)
    second = serve(redis_server.url)
    publish(second, "t", 100)
    at(second, "t", 101)
    with redis.Redis.from_url(redis_server.url) as direct:
        assert direct.xlen(STREAM) == 101


def test_an_export_beside_a_server_that_writes_is_of_one_moment(
    serve: ServerFactory, redis_server: RedisServer, tmp_path: Path
) -> None:
    for store in (redis_server.url, f"sqlite:{tmp_path / 'events.db'}"):
        server = serve(store)
        for n in range(2000):
            server.publish("t", {"n": n})
            if n % 200 == 100:
                found = read_store(store)
                log = found.logs.get("t")
                assert not found.damaged
                assert log is None or not log.entries or log.entries[-1].seq == log.head
        at(server, "t", 2000)
        whole = import_lines(export_lines(read_store(store)))
        assert [entry.seq for entry in whole.logs["t"].entries] == list(range(1, 2001))
    empty = f"redis://127.0.0.1:{redis_server.port}/1"
    write_store(empty, whole)
    assert (
        subprocess.run(
            ["redis-cli", "-p", str(redis_server.port), "-n", "1", "xlen", STREAM], capture_output=True, check=True
        ).stdout.strip()
        == b"2000"
    )


def test_a_server_goes_on_after_redis_came_back_with_an_older_copy(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    port = free_port()
    with running(tmp_path, port=port) as process:
        server = serve(f"redis://127.0.0.1:{port}/0", store_unavailable_grace=60)
        server.topic("other")
        wait_for(lambda: not server.events.topic("other").availability.value)
        clients = {name: connect(server) for name in ("t", "other")}
        for name, client in clients.items():
            subscribe(client, name)
        publish(server, "t", 1)
        publish(server, "other", 1)
        at(server, "other", 1)
        with redis.Redis(port=port) as direct:
            direct.save()
        publish(server, "t", 2, 3)
        at(server, "t", 3)
        process.kill()
        process.wait(10)
    with running(tmp_path, port=port):
        publish(server, "t", 4)
        publish(server, "other", 5)
        for name, client in clients.items():
            found = client.answer()["params"]
            while "error" not in found:
                found = client.answer()["params"]
            assert found["error"]["data"]["reason"] == "epoch"
            begin = {"epoch": found["epoch"], "seq": 0}
            assert subscribe(client, name, since=begin)["recovered"] is True
            assert events(client, 1)[0]["result"] == {"n": 4 if name == "t" else 5}


def test_a_topic_that_is_written_before_it_was_read_does_not_continue_an_older_copy(
    serve: ServerFactory, tmp_path: Path
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with running(tmp_path, port=port) as process:
        server = serve(url)
        server.publish("user/bob", {"n": 1})
        at(server, "user/bob", 1)
        place = server.events.topic("user/bob").log.position
        with redis.Redis(port=port) as direct:
            direct.save()
        process.kill()
        process.wait(10)
    server.stop(0)
    with running(tmp_path, port=port):
        again = serve(url)
        again.publish("user/bob", {"n": 2})
        at(again, "user/bob", 1)
        assert again.events.topic("user/bob").log.position.epoch != place.epoch


def test_a_key_of_another_kind_in_place_of_a_forgotten_topic_holds_up_no_other(
    serve: ServerFactory, redis_server: RedisServer
) -> None:
    server = serve(redis_server.url)
    server.publish("user/alice", {"n": 1})
    at(server, "user/alice", 1)
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.delete("dilithion-ws:user/alice:epoch")
        direct.hset("dilithion-ws:user/alice:epoch", "a", "b")
        server.events.forget_user("alice")
        publish(server, "t", 1)
        at(server, "t", 1)
        wait_for(lambda: direct.type("dilithion-ws:user/alice:epoch") == b"string")
        assert 0 < int(str(direct.ttl("dilithion-ws:user/alice:epoch"))) <= 3900
