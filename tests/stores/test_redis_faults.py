"""What Redis holds may have gaps, be damaged or gone, and the server may have few rights there."""

from __future__ import annotations

import logging

import pytest
import redis

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.client import Client, EventsLostError
from dilithion_ws.stores.redis_faults import kind_of
from dilithion_ws.stores.store_fault import StoreFaultKind

from ..support import RedisServer, needs_redis, wait_for
from ..support.commands import ROOT
from ..support.configs import make_config
from ..support.fixtures import ServerFactory

pytestmark = needs_redis
PAGE = (ROOT / "docs" / "events.md").read_text()
STREAM = "dilithion-ws:t:stream"
RIGHTS = next(line for line in PAGE.splitlines() if "ACL SETUSER" in line).partition("~dilithion-ws:* ")[2]


def publish(serve: ServerFactory, redis_server: RedisServer, count: int) -> str:
    """Publish events 1 to `count` by a server that is stopped then. Return the epoch."""
    server = serve(redis_server.url)
    with Client(server.url) as client:
        subscription = client.subscribe("t")
        for number in range(1, count + 1):
            server.publish("t", {"n": number})
        events = [subscription.get(10) for _ in range(count)]
    server.stop(2)
    assert [event.seq for event in events] == list(range(1, count + 1))
    return str(events[0].epoch)


def since(serve: ServerFactory, redis_server: RedisServer, epoch: str, seq: int) -> list[int]:
    """Return the numbers of the events that a client gets after a position, from a server that starts now."""
    server = serve(redis_server.url)
    with Client(server.url) as client:
        subscription = client.subscribe("t", since=(epoch, seq))
        found: list[int] = []
        while not found or found[-1] != 20:
            event = subscription.get(10)
            assert event is not None
            assert event.data == {"n": event.seq}
            found.append(event.data["n"])
        return found


def test_an_entry_that_is_missing_is_a_loss_and_renumbers_nothing(
    serve: ServerFactory, redis_server: RedisServer
) -> None:
    epoch = publish(serve, redis_server, 20)
    with redis.Redis.from_url(redis_server.url) as direct:
        assert direct.xdel(STREAM, *(f"{seq}-0" for seq in range(10, 13)))
    with pytest.raises(EventsLostError, match="expired"):
        since(serve, redis_server, epoch, 5)
    assert since(serve, redis_server, epoch, 15) == [16, 17, 18, 19, 20]


def test_a_damaged_entry_is_left_out(
    serve: ServerFactory, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = publish(serve, redis_server, 20)
    with redis.Redis.from_url(redis_server.url) as direct:
        rows = direct.xrange(STREAM)
        direct.delete(STREAM)
        for id, fields in rows:
            if id == b"7-0":
                fields[b"d"] = b'{"n": 8}'
            direct.xadd(STREAM, fields, id)
    with pytest.raises(EventsLostError, match="expired"):
        since(serve, redis_server, epoch, 5)
    assert since(serve, redis_server, epoch, 7) == list(range(8, 21))
    assert "the event 7-0 of t in Redis is damaged: it is left out" in caplog.text


def test_an_entry_that_is_damaged_on_its_way_is_a_loss(serve: ServerFactory, redis_server: RedisServer) -> None:
    server = serve(redis_server.url)
    with Client(server.url) as client, redis.Redis.from_url(redis_server.url) as direct:
        subscription = client.subscribe("t")
        epoch = subscription.position.epoch
        pipeline = direct.pipeline(transaction=True)
        pipeline.xadd(STREAM, {"e": epoch, "t": 0, "d": b"{}", "c": "00000000"}, "1-0")
        pipeline.set("dilithion-ws:t:head", 1)
        pipeline.execute()
        server.publish("t", {"n": 2})
        with pytest.raises(EventsLostError):
            subscription.get(10)
        assert server.events.topic("t").log.position.seq == 2


def test_entries_of_the_first_version_have_no_checksum(serve: ServerFactory, redis_server: RedisServer) -> None:
    epoch = publish(serve, redis_server, 20)
    with redis.Redis.from_url(redis_server.url) as direct:
        rows = direct.xrange(STREAM)
        direct.delete(STREAM)
        for id, fields in rows:
            del fields[b"c"]
            direct.xadd(STREAM, fields, id)
    assert since(serve, redis_server, epoch, 15) == [16, 17, 18, 19, 20]


def test_the_loss_of_all_history_is_in_the_log(
    serve: ServerFactory, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(redis_server.url)
    with Client(server.url) as client, redis.Redis.from_url(redis_server.url) as direct:
        subscription = client.subscribe("t")
        server.publish("t", {"n": 1})
        assert subscription.get(10).seq == 1
        with caplog.at_level(logging.WARNING):
            direct.flushall()
            with pytest.raises(EventsLostError, match="epoch"):
                subscription.get(20)
    assert "Redis has lost the history of t" in caplog.text


def test_rights_on_its_own_keys_are_enough(serve: ServerFactory, redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.execute_command("ACL", "SETUSER", "ws", "on", ">secret", "~dilithion-ws:*", *RIGHTS.split())
    url = redis_server.url.replace("redis://", "redis://ws:secret@")
    leader, other = serve(url), serve(url)
    leadership = leader.events.lead(["blocks"])
    wait_for(lambda: leadership.term)
    with Client(other.url) as client:
        subscription = client.subscribe("t")
        leader.publish("t", {"n": 1})
        assert subscription.get(10).data == {"n": 1}
        leader.events.start_new_epoch("t")
        with pytest.raises(EventsLostError, match="epoch"):
            subscription.get(10)


def fault_of(server: WebSocketServer) -> str:
    status = server.events.store_status
    assert status is not None
    assert status.kind == "redis"
    return status.fault


def test_faults_are_told_apart(serve: ServerFactory, redis_server: RedisServer, rpc: RpcTable) -> None:
    server = serve(redis_server.url, store_unavailable_grace=0.1)
    assert fault_of(server) == ""
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~other:*", *RIGHTS.split())
    for user, kind in (("few:secret", "permissions"), ("few:wrong", "password")):
        url = redis_server.url.replace("redis://", f"redis://{user}@")
        with WebSocketServer(rpc, make_config(event_store=url, store_unavailable_grace=0.1)) as other:
            wait_for(lambda other=other, kind=kind: fault_of(other) == kind)
            with redis.Redis.from_url(redis_server.url) as direct:  # no restart is needed when the cause is removed
                direct.execute_command("ACL", "SETUSER", "few", ">wrong", "~*", "+@all")
            wait_for(lambda other=other: fault_of(other) == "", 20)
            with redis.Redis.from_url(redis_server.url) as direct:
                direct.execute_command("ACL", "SETUSER", "few", "<wrong")
    redis_server.kill()
    wait_for(lambda: fault_of(server) == "away")
    redis_server.start()
    wait_for(lambda: fault_of(server) == "", 20)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.exceptions.OutOfMemoryError("x"), StoreFaultKind.FULL),
        (redis.exceptions.ReadOnlyError("x"), StoreFaultKind.READ_ONLY),
        (redis.ResponseError("MISCONF the disk"), StoreFaultKind.FULL),
        (redis.ResponseError("NOPERM x"), StoreFaultKind.PERMISSIONS),
        (redis.ResponseError("x"), StoreFaultKind.OTHER),
        (OSError("x"), StoreFaultKind.AWAY),
    ],
)
def test_kinds_of_errors(error: BaseException, kind: StoreFaultKind) -> None:
    assert kind_of(error) is kind
