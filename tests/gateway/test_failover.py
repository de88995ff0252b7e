"""Several nodes of one chain: another one takes over when the one that is used fails, and no block is published twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import ConfigError, RpcError
from dilithion_ws.client import Client
from dilithion_ws.gateway import GatewayConfig

from ..support import RedisServer, needs_redis, wait_for
from ..support.gateways import GatewayFactory, ready, take
from ..support.http import request
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.standin import StandIn


class Nodes:
    """Two nodes of one chain."""

    def __init__(self) -> None:
        self.first, self.second = StandIn(), StandIn()
        self.urls = f"{self.first.url},{self.second.url}"

    def mine(self, *nodes: StandIn) -> list[str]:
        """Add the same block to the chains of nodes."""
        return [node.mine()["hash"] for node in nodes or (self.first, self.second)]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.first.stop()
    nodes.second.stop()


def test_another_node_takes_over_and_blocks_go_on(nodes: Nodes, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(nodes.urls))
    with Client(gateway.server.url) as client:
        blocks, states = client.subscribe("blocks"), client.subscribe("node")
        hashes = nodes.mine()[:1]
        assert [event["hash"] for event in take(blocks, 1)] == hashes
        nodes.first.stop()
        hashes = nodes.mine(nodes.second) + nodes.mine(nodes.second)
        assert [event["hash"] for event in take(blocks, 2)] == hashes
        assert client.call("getblockcount") == 3
        assert client.call("getnodestate")["kind"] == "up"
        with pytest.raises(RpcError, match="can't be reached") as caught:
            client.call("getbalance")  # the first node has the wallets
        assert caught.value.code == -32009
        refused, count = client.batch([("getbalance", []), ("getblockcount", [])])
        assert (refused.code, count) == (-32009, 3)
        assert "getbalance" not in nodes.second.methods
        states.close()


def test_a_call_about_wallets_that_waits_does_not_go_to_another_node(nodes: Nodes, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(nodes.urls, poll_interval=0.3))
    with Client(gateway.server.url) as client, ThreadPoolExecutor(1) as pool:
        nodes.first.tokens = 0
        paying = pool.submit(client.call, "sendtoaddress", "D1", 1)
        wait_for(lambda: len(gateway._waiting.limited[gateway._wallet_node]) == 1)
        nodes.first.stop()
        with pytest.raises(RpcError, match="can't be reached"):
            paying.result(20)
    assert "sendtoaddress" not in nodes.second.methods


def test_the_first_node_holds_up_nobody_when_it_comes_back_and_refuses(nodes: Nodes, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(nodes.urls))
    with Client(gateway.server.url) as client, ThreadPoolExecutor(1) as pool:
        nodes.first.stop()
        wait_for(lambda: nodes.second.methods)
        wait_for(lambda: _count(client) == 0)
        again = StandIn(account="bot:secret", port=nodes.first.port)
        try:
            wait_for(lambda: _refused(client))
            assert client.call("getblockcount") == 0
            again.account, again.tokens = "", 0.0
            gateway._wallet_node._breaker.reset()
            waiting = pool.submit(client.call, "getbalance")
            wait_for(lambda: len(gateway._waiting.limited[gateway._wallet_node]) == 1)
            for number in range(3):
                assert client.call("getblockhash", height=0, x=number)["blockhash"]
            again.tokens = 10.0
            assert waiting.result(20)
        finally:
            again.stop()


def _refused(client: Client) -> bool:
    try:
        client.call("getbalance")
    except RpcError as error:
        return "credentials" in error.message
    return False


@needs_redis
def test_a_gateway_that_does_not_lead_chooses_its_node_too(
    nodes: Nodes, gateways: GatewayFactory, redis_server: RedisServer
) -> None:
    shared = {"event_store": redis_server.url, "leader_patience": 0.5}
    leader = ready(gateways(nodes.first.url, **shared))
    wait_for(leader.poller.is_leading)
    standby = gateways(f"{nodes.second.url},{nodes.first.url}", **shared)
    alone = gateways(nodes.second.url, **shared)
    wait_for(lambda: _health(standby)[0] == _health(alone)[0] == 200)
    with Client(standby.server.url) as client:
        nodes.second.stop()
        wait_for(lambda: _count(client) == 0)
        wait_for(lambda: _health(alone)[0] == 503)
        assert _health(alone)[1]["node"]["reached"] is False
        assert _health(standby)[0] == 200


def _health(gateway: Any) -> tuple[int, Any]:
    status, _, body = request(gateway.server, "GET", "/health?node=1")
    return status, json.loads(body)


def test_calls_about_wallets_go_to_another_node_by_a_setting(nodes: Nodes, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(nodes.urls, failover_wallet=True))
    with Client(gateway.server.url) as client:
        nodes.first.stop()
        wait_for(lambda: nodes.second.methods)
        assert "balance" in wait_for(lambda: _balance(client))


def _balance(client: Client) -> Any:
    try:
        return client.call("getbalance")
    except RpcError:
        return None


def test_a_node_that_is_behind_or_on_another_chain_does_not_take_over(
    nodes: Nodes, gateways: GatewayFactory, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = ready(gateways(nodes.urls))
    with Client(gateway.server.url) as client:
        blocks = client.subscribe("blocks")
        nodes.mine(nodes.first)
        (told,) = take(blocks, 1)
        nodes.first.stop()
        wait_for(lambda: "it is at height 0, and 1 was published" in caplog.text)
        assert client.call("getnodestate")["kind"] == "down"
        nodes.second.mine("b")
        wait_for(lambda: "it does not know the last published block" in caplog.text)
        nodes.second.unwind(1)
        nodes.mine(nodes.second)  # the block that was published
        assert nodes.second.chain[-1]["hash"] == told["hash"]
        hashes = nodes.mine(nodes.second)
        assert [event["hash"] for event in take(blocks, 1)] == hashes


def test_urls_of_nodes() -> None:
    config = GatewayConfig(upstream="http://a:1, http://b:2")
    assert (config.upstreams, config.port) == (("http://a:1", "http://b:2"), 1)
    with pytest.raises(ConfigError, match="it takes http://HOST:PORT"):
        GatewayConfig(upstream="http://a:1,")
    with pytest.raises(ConfigError, match="several need rpcgatewayuser"):
        GatewayConfig(upstream="http://a:1,http://b:2", upstream_cookie="x")


@pytest.mark.load
@needs_litecoind
@pytest.mark.timeout(100)
def test_real_nodes_of_one_chain(tmp_path: Path, gateways: GatewayFactory) -> None:
    account = ("-rpcuser=bot", "-rpcpassword=secret")
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    first, second = (Litecoin(folder) for folder in folders)
    try:
        first.call("createwallet", "w")
        first.call("generatetoaddress", 5, first.call("getnewaddress"))
        for height in range(1, 6):
            second.call("submitblock", first.call("getblock", first.call("getblockhash", height), 0))
        for node in (first, second):
            node.stop()
            node.start(*account)
        options = {"upstream_user": "bot", "upstream_password": "secret"}
        gateway = ready(gateways(f"{first.url},{second.url}", **options))
        with Client(gateway.server.url) as client:
            blocks = client.subscribe("blocks")
            assert client.call("getblockcount") == 5
            first.kill()
            wait_for(lambda: _count(client) == 5)
            second.call("createwallet", "w")
            hashes = second.call("generatetoaddress", 2, second.call("getnewaddress"))
            assert [event["hash"] for event in take(blocks, 2)] == hashes
    finally:
        first.kill()
        second.kill()


def _count(client: Client) -> Any:
    try:
        return client.call("getblockchaininfo")["blocks"]
    except RpcError:
        return None
