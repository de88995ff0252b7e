"""Blocks and followed transactions through a gateway: from a real node, and from a stand-in for Dilithion's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dilithion_ws.gateway.dialects.bitcoin_core import CORE
from dilithion_ws.gateway.dialects.dilithion import DILITHION
from dilithion_ws.gateway.node_queries import NodeQueries

from ..support import RawClient, wait_for
from ..support.gateways import GatewayFactory, put, ready, transaction
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


def test_what_clients_send_never_becomes_a_call() -> None:
    evil = 'a"]},{"method":"stop","params":[]},{"id":2,"method":"x","params":["'
    for dialect in (CORE, DILITHION):
        queries = NodeQueries(dialect)
        calls = [queries.block(evil), queries.block(evil, 50), queries.detailed_block(evil)]
        calls += queries.transaction(evil, True)
        for _, params in calls:
            assert json.loads(params)[0] == evil


def test_while_the_node_is_down_it_is_busy(gateways: GatewayFactory) -> None:
    node = StandIn()
    gateway = ready(gateways(node.url))
    node.stop()
    wait_for(lambda: gateway.poller.status.last and type(gateway.poller.status.last).__name__ == "NodeDown", 10)
    with RawClient(gateway.server.port) as client:
        reply: Any = subscribe(client, since={"height": 0})
        assert reply["error"]["code"] == -32009
        assert "the chain can't be read" in reply["error"]["message"]


def watch(client: RawClient, **options: Any) -> Any:
    """Follow transactions. Return the reply."""
    return subscribe(client, "transactions", **options)


def follow_until(client: RawClient, kind: str, txid: str, confirmations: int = 0) -> list[dict[str, Any]]:
    """Return the params of events up to one of a kind about a transaction."""
    seen = []
    while True:
        seen.append(client.answer()["params"])
        event = seen[-1]["result"]
        if (event["kind"], event["txid"]) == (kind, txid) and event.get("confirmations", 0) == confirmations:
            return seen


@needs_litecoind
@pytest.mark.timeout(150)
def test_payments_at_a_real_node(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    litecoin.call("createwallet", "w")
    own = litecoin.call("getnewaddress")
    litecoin.call("generatetoaddress", 110, own)
    gateway = put(litecoin, gateways)
    payee = litecoin.call("getnewaddress")
    with RawClient(gateway.server.port) as client:
        watch(client, filter={"address": payee, "confirmations": 2})
        txid = litecoin.call("sendtoaddress", payee, 1)
        seen = follow_until(client, "seen", txid)
        assert seen[-1]["result"]["addresses"] == [payee]
        (first,) = litecoin.call("generatetoaddress", 1, own)
        assert follow_until(client, "confirmed", txid, 1)[-1]["result"]["hash"] == first
        litecoin.call("generatetoaddress", 1, own)
        place = follow_until(client, "confirmed", txid, 2)[-1]["since"]
    # While no client is there, the block is replaced.
    litecoin.call("invalidateblock", first)
    other = litecoin.call("getnewaddress")
    litecoin.call("generatetoaddress", 4, other)
    with RawClient(gateway.server.port) as client:
        reply = watch(client, filter={"address": payee, "confirmations": 2}, since=place)
        assert reply["recovered"] is True
        events = [params["result"] for params in follow_until(client, "confirmed", txid, 2)]
        assert [event["kind"] for event in events] == ["unconfirmed", "confirmed", "confirmed"]
        assert events[0]["hash"] == first
        assert events[-1]["hash"] == litecoin.call("gettransaction", txid)["blockhash"]


@needs_litecoind
@pytest.mark.timeout(150)
def test_a_payment_that_is_replaced(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    litecoin.kill()
    litecoin.start("-mempoolreplacement=1")  # Litecoin has it off
    litecoin.call("createwallet", "w")
    own = litecoin.call("getnewaddress")
    litecoin.call("generatetoaddress", 110, own)
    old = litecoin.call("sendtoaddress", own, 1, "", "", False, True)
    gateway = put(litecoin, gateways)
    with RawClient(gateway.server.port) as client:
        watch(client, filter={"txid": old})
        follow_until(client, "seen", old)  # it was there before the gateway was
        newer = litecoin.call("sendtoaddress", own, 2, "", "", False, True)
        watch_id = watch(client, filter={"txid": newer})["subscription"]
        assert watch_id.startswith("transactions-")
        follow_until(client, "seen", newer)
        bumped = litecoin.call("bumpfee", newer)["txid"]
        dropped = follow_until(client, "dropped", newer)[-1]["result"]
        assert dropped["reason"] == "replaced"
        watch(client, filter={"txid": bumped, "confirmations": 1})
        litecoin.call("generatetoaddress", 1, own)
        follow_until(client, "confirmed", bumped, 1)


def test_what_came_long_ago_and_waits_is_found_by_address(gateways: GatewayFactory) -> None:
    node = StandIn()
    try:
        gateway = ready(gateways(node.url, history_age=0.1))
        node.mempool["ab" * 32] = {**transaction(), "vout": [{"value": 1.0, "address": "DPayee"}]}
        log = gateway.server.events.topic("mempool").log
        wait_for(lambda: log.position.seq)
        node.mempool["cd" * 32] = {**transaction(), "vout": []}
        wait_for(lambda: log.first > 1, 10, "the end of the first event")
        with RawClient(gateway.server.port) as client:
            watch(client, filter={"address": "DPayee"})
            follow_until(client, "seen", "ab" * 32)
    finally:
        node.stop()


def test_payments_at_a_dilithion_node(gateways: GatewayFactory) -> None:
    node = StandIn()
    try:
        gateway = ready(gateways(node.url))
        with RawClient(gateway.server.port) as client:
            watch(client, filter={"address": "DPayee"})
            node.mempool["ab" * 32] = {**transaction(), "vout": [{"value": 1.0, "address": "DPayee"}]}
            follow_until(client, "seen", "ab" * 32)
            node.mine()
            follow_until(client, "confirmed", "ab" * 32, 1)
            node.unwind(1)
            node.mine("b")
            node.mine("b")
            assert follow_until(client, "unconfirmed", "ab" * 32)
    finally:
        node.stop()
