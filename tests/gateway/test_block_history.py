"""Subscribing from a block through a gateway: from a real node of Core's family, and from a stand-in for Dilithion's."""

from __future__ import annotations

from typing import Any

import pytest

from ..support import RawClient, wait_for
from ..support.gateways import GatewayFactory, put, ready
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.standin import StandIn
from ..support.subscriptions import subscribe


def follow(client: RawClient, tip: str, last: str) -> list[str]:
    """Read events until a block is the tip, each of which must follow from the one before. Return their kinds."""
    kinds = []
    while tip != last:
        event = client.answer()["params"]["result"]
        connects = event["kind"] == "connected"
        assert tip == event["previousblockhash" if connects else "hash"]
        tip = event["hash" if connects else "previousblockhash"]
        kinds.append(event["kind"])
    return kinds


@needs_litecoind
@pytest.mark.timeout(150)
def test_a_real_node(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    litecoin.call("createwallet", "w")
    address = litecoin.call("getnewaddress")
    hashes = litecoin.call("generatetoaddress", 250, address)
    litecoin.call("invalidateblock", hashes[247])
    address = litecoin.call("getnewaddress")  # the same one would make the same blocks again
    new = litecoin.call("generatetoaddress", 5, address)
    gateway = put(litecoin, gateways)  # knows nothing of what was before
    with RawClient(gateway.server.port) as client:
        reply = subscribe(client, since={"height": 249, "hash": hashes[248]})
        assert reply["recovered"] is True
        assert follow(client, hashes[248], new[-1]) == ["disconnected"] * 2 + ["connected"] * 5
        more = litecoin.call("generatetoaddress", 3, address)
        assert follow(client, new[-1], more[-1]) == ["connected"] * 3
    with RawClient(gateway.server.port) as client:
        subscribe(client, since={"height": -1})
        assert len(follow(client, "0" * 64, more[-1])) == litecoin.call("getblockcount") + 1
    with RawClient(gateway.server.port) as client:
        reply = subscribe(client, since={"height": 249, "hash": "ab" * 32})
        assert (reply["recovered"], reply["reason"]) == (False, "fork")


def test_a_dilithion_node(gateways: GatewayFactory) -> None:
    node = StandIn()
    try:
        for _ in range(230):
            node.mine()
        old = node.chain[-1]
        node.unwind(2)
        for _ in range(4):
            node.mine("b")
        gateway = ready(gateways(node.url))
        with RawClient(gateway.server.port) as client:
            reply = subscribe(client, since={"height": old["height"], "hash": old["hash"]})
            assert reply["recovered"] is True
            assert follow(client, old["hash"], node.chain[-1]["hash"]) == ["disconnected"] * 2 + ["connected"] * 4
    finally:
        node.stop()


def test_while_the_node_is_down_it_is_busy(gateways: GatewayFactory) -> None:
    node = StandIn()
    gateway = ready(gateways(node.url))
    node.stop()
    wait_for(lambda: gateway.poller.status.last and type(gateway.poller.status.last).__name__ == "NodeDown", 10)
    with RawClient(gateway.server.port) as client:
        reply: Any = subscribe(client, since={"height": 0})
        assert reply["error"]["code"] == -32009
        assert "the chain can't be read" in reply["error"]["message"]
