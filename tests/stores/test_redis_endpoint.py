"""Redis as people run it: Sentinels, Cluster, TLS with client certificates, a socket, a prefix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from dilithion_ws import ConfigError, WebSocketServer
from dilithion_ws.stores.archive import read_store
from dilithion_ws.stores.probe import find_store_problem
from dilithion_ws.stores.redis_endpoint import RedisEndpoint

from ..support import RedisServer, free_port, needs_redis, wait_for
from ..support.certificates import Authority
from ..support.configs import make_config
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.redis_servers import cluster, running, sentinels, tls_redis
from ..support.subscriptions import events, subscribe

pytestmark = needs_redis


def numbers(server: WebSocketServer) -> list[Any]:
    """What the log has."""
    log = server.events.topic("t").log
    entries, _ = log.read(log.position._replace(seq=log.first - 1), 10**7)
    return [json.loads(entry.data)["n"] for entry in entries]


def publish(server: WebSocketServer, *numbers_: int) -> None:
    for n in numbers_:
        server.publish("t", {"n": n})
    wait_for(lambda: numbers(server)[-1:] == [numbers_[-1]], 30)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1/0", "'http' is not the scheme"),
        ("unix+cluster://x", "not the scheme"),
        ("redis+sentinel://127.0.0.1:1", "needs the name of a service"),
        ("redis+cluster://", "has no host"),
        ("redis+cluster://127.0.0.1:1,,127.0.0.1:2", "has no host"),
        ("redis://127.0.0.1:1/0?prefix=a{b", "is not a prefix"),
        ("redis://127.0.0.1:x/0", "can't be read"),
        ("redis+cluster://127.0.0.1:1,127.0.0.1:x", "can't be read"),
        ("redis+cluster://127.0.0.1:1,[::1", "can't be read"),
        ("redis://:secret/word@127.0.0.1/0", "can't be read"),
        ("redis://127.0.0.1:1/0?health_check_interval=x", "can't be read"),
        ("redis://127.0.0.1:1/0?unknown=x", "can't be read"),
    ],
)
def test_what_is_not_a_url_of_redis_says_why(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as error:
        RedisEndpoint(url, 1.0)
    assert "secret" not in str(error.value)
    assert find_store_problem(url) == str(error.value)


def test_a_setting_that_is_no_store_names_the_forms() -> None:
    with pytest.raises(ConfigError, match="another form of Redis"):
        make_config(event_store="redis+other://x")


@pytest.mark.parametrize("kind", ["redis+cluster", "redis+sentinel"])
def test_without_a_server_redis_is_away(kind: str) -> None:
    endpoint = RedisEndpoint(f"{kind}://127.0.0.1:{free_port()}/node", 1.0)
    with pytest.raises(redis.ConnectionError):
        endpoint.client.ping()
    endpoint.close()


def test_two_servers_with_prefixes_share_a_database_with_other_programs(
    serve: ServerFactory, redis_server: RedisServer
) -> None:
    with redis.Redis.from_url(redis_server.url) as direct:
        direct.set("t:stream", "of another program")
        one, other = (serve(f"{redis_server.url}?prefix={name}") for name in ("one", "other"))
        publish(one, 1, 2)
        publish(other, 3)
        assert (numbers(one), numbers(other)) == ([1, 2], [3])
        names = {key.decode().partition(":")[0] for key in direct.keys("*")}  # type: ignore[union-attr]
        assert names == {"t", "one", "other"}
        assert direct.get("t:stream") == b"of another program"
    found = read_store(f"{redis_server.url}?prefix=other")
    assert [entry.data for entry in found.logs["t"].entries] == [b'{"n":3}']


def test_a_socket(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    url = f"unix://{path}?db=3"
    with running(tmp_path / "data", "--unixsocket", str(path), port=0, client=redis.Redis.from_url(url)):
        server = serve(url)
        publish(server, 1, 2)
        with redis.Redis.from_url(url) as direct:
            assert direct.xlen("dilithion-ws:t:stream") == 2
        assert find_store_problem(url) == ""


def test_tls_with_a_certificate_of_the_client(serve: ServerFactory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with tls_redis(tmp_path / "data", authority) as url:
        server = serve(url)
        publish(server, 1, 2)
        assert numbers(server) == [1, 2]
        assert find_store_problem(url) == ""
        without, _, _ = url.partition("&ssl_certfile")
        assert find_store_problem(without) != "", "the server asks for a certificate"
        unknown = url.replace(f"ssl_ca_certs={authority.root}&", "")
        assert "certificate verify failed" in find_store_problem(unknown)


@pytest.mark.timeout(120)
def test_when_the_master_dies_sentinels_name_another(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    with sentinels(tmp_path) as service:
        server = serve(service.url, store_unavailable_grace=60.0, ping_interval=300.0)
        client = connect(server)
        epoch = subscribe(client, "t")["epoch"]
        publish(server, 1, 2, 3)
        wait_for(lambda: service.second.xlen("dilithion-ws:t:stream") == 3)
        service.fail()
        publish(server, 4, 5)
        found = events(client, 5)
        assert [(one["epoch"], one["seq"], one["result"]["n"]) for one in found] == [(epoch, n, n) for n in range(1, 6)]


@pytest.mark.timeout(180)
def test_a_cluster_whose_node_dies_and_whose_slot_moves(
    serve: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    with cluster(tmp_path) as whole:
        server = serve(whole.url, store_unavailable_grace=60.0, leader_patience=2.0, ping_interval=300.0)
        leadership = server.events.lead(["blocks"])
        client = connect(server)
        epoch = subscribe(client, "t")["epoch"]
        publish(server, 1, 2, 3)
        wait_for(lambda: leadership.term)
        first = whole.node_of("{dilithion-ws}:")
        with redis.Redis(port=first) as direct:
            assert direct.xlen("{dilithion-ws}:t:stream") == 3
            assert direct.wait(1, 5000) == 1
        whole.fail(first)
        publish(server, 4, 5)
        second = whole.node_of("{dilithion-ws}:")
        assert second != first
        third = whole.node_of("{other}:")
        if third == second:
            third = whole.node_of("{b}:")
        whole.move_slot("{dilithion-ws}:", second, third)
        publish(server, 6)
        found = events(client, 6)
        assert [(one["epoch"], one["seq"], one["result"]["n"]) for one in found] == [(epoch, n, n) for n in range(1, 7)]
        assert [entry.seq for entry in read_store(whole.url).logs["t"].entries] == [1, 2, 3, 4, 5, 6]
