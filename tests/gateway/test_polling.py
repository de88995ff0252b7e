"""What subscribers hear of a Dilithion node that is polled, against the stand-in."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.client import Client, EventsLostError, Subscription
from dilithion_ws.events.topic import Availability
from dilithion_ws.gateway.gateway_config import GatewayConfig
from dilithion_ws.gateway.node_view import MiningView, PeersView
from dilithion_ws.gateway.poll_schedule import PollSchedule
from dilithion_ws.gateway.zmq_listener import ZmqSequences

from ..support import RawClient, RedisServer, needs_redis, wait_for
from ..support.gateways import GatewayFactory, ready, take, transaction
from ..support.standin import StandIn


@contextlib.contextmanager
def watching(gateway: Any, topic: str) -> Iterator[Subscription]:
    with Client(gateway.server.url) as client:
        yield client.subscribe(topic)


def test_blocks_are_published_one_by_one(standin: StandIn, gateways: GatewayFactory) -> None:
    with watching(ready(gateways(standin.url)), "blocks") as blocks:
        mined = [standin.mine() for _ in range(250)]
        told = take(blocks, 250)
    assert [event["hash"] for event in told] == [block["hash"] for block in mined]
    assert told[7] == {
        "kind": "connected",
        "height": 8,
        "hash": mined[7]["hash"],
        "previousblockhash": mined[6]["hash"],
        "time": mined[7]["time"],
        "tx_count": 1,
    }


def test_a_reorganisation_is_published_as_disconnects_and_connects(standin: StandIn, gateways: GatewayFactory) -> None:
    for _ in range(5):
        standin.mine()
    with watching(ready(gateways(standin.url)), "blocks") as blocks:
        old = [block["hash"] for block in standin.chain[3:]]
        with standin.handling:
            standin.unwind(3)
            new = [standin.mine("b")["hash"] for _ in range(4)]
        told = take(blocks, 7)
    assert [(event["kind"], event["hash"]) for event in told] == [
        *(("disconnected", hash) for hash in reversed(old)),
        *(("connected", hash) for hash in new),
    ]


def test_removals_from_the_mempool_are_published_with_their_reason(standin: StandIn, gateways: GatewayFactory) -> None:
    standin.mempool["old"] = transaction(100)
    gateway = ready(gateways(standin.url))
    with watching(gateway, "mempool") as mempool, Client(gateway.server.url) as client:
        standin.mempool["new"] = transaction()
        (added,) = take(mempool, 1)
        assert added == {"kind": "added", "txid": "new", "size": 300, "sequence": 1, "addresses": ["D1", "D2"]}
        paid = client.subscribe("mempool", filter={"address": ["D2"]})
        del standin.mempool["old"]
        (left,) = take(mempool, 1)
        assert (left["kind"], left["txid"], left["reason"], left["size"]) == ("removed", "old", "unknown", 100)
        standin.mine()
        (mined,) = take(mempool, 1)
        block = standin.chain[-1]
        assert mined == {
            "kind": "mined",
            "height": block["height"],
            "hash": block["hash"],
            "txids": ["new"],
            "sequence": 3,
            "addresses": ["D1", "D2"],
        }
        assert [paid.get(10).data["kind"] for _ in range(2)] == ["removed", "mined"]


@pytest.mark.parametrize("reason", ["replaced", "conflict"])
def test_of_a_transaction_that_leaves_for_another_the_reason_is_known(
    standin: StandIn, gateways: GatewayFactory, reason: str
) -> None:
    spent = {"vin": [{"txid": "funds", "vout": 0}]}
    standin.mempool["first"] = transaction() | spent
    with watching(ready(gateways(standin.url)), "mempool") as mempool:
        standin.mempool["first"] = transaction() | spent
        standin.mempool["bystander"] = transaction()
        take(mempool, 1)
        with standin.handling:
            del standin.mempool["first"]
            standin.mempool["second"] = transaction() | spent
            if reason == "conflict":
                standin.mine()
        told = {event["txid"]: event for event in take(mempool, 2) if event["kind"] == "removed"}
    assert told["first"]["reason"] == reason


def test_a_state_of_the_node_and_the_events_after_it(standin: StandIn, gateways: GatewayFactory) -> None:
    with Client(ready(gateways(standin.url)).server.url) as client:
        state, position = client.call_with_position("getnodestate")
        assert state["kind"] == "up"
        (topic,) = [one for one in client.call("topics") if one["topic"] == "node"]
        assert topic["mode"] == "latest"
        events = client.subscribe("node", since=position)
        standin.stop()
        assert take(events, 1)[0]["kind"] == "down"


def test_a_call_that_finds_no_node_has_it_polled_at_once(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, poll_interval=30.0, poll_longest=60.0))
    with Client(gateway.server.url) as client:
        node = client.subscribe("node")
        standin.stop()
        with contextlib.suppress(RpcError):
            client.call("getblockcount")
        assert take(node, 1)[0]["kind"] == "down"


def test_transactions_that_were_mined_between_two_polls_are_told_with_their_addresses(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url))
    with watching(gateway, "mempool") as mempool, Client(gateway.server.url) as client:
        paid = client.subscribe("mempool", filter={"address": ["D2"]})
        followed = client.subscribe("mempool", filter={"txid": ["quick"]})
        with standin.handling:  # no poll sees it in the mempool
            standin.mempool["quick"] = transaction()
            standin.mine()
        (mined,) = take(mempool, 1)
        assert (mined["kind"], mined["txids"], mined["addresses"]) == ("mined", ["quick"], ["D1", "D2"])
        assert "unseen" not in mined
        assert [one.get(10).data["txids"] for one in (paid, followed)] == [["quick"], ["quick"]]


@pytest.mark.load
def test_a_block_of_thousands_is_one_event_and_readers_of_its_transactions_lose_none(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url, history_entries=256))
    with watching(gateway, "mempool") as mempool:
        names = [f"{number:064x}" for number in range(4000)]
        with standin.handling:
            standin.mempool.update({name: transaction() for name in names})
        assert [event["txid"] for event in take(mempool, 4000)] == names
        with standin.handling:
            standin.mine()
        (mined,) = take(mempool, 1)
        assert (mined["kind"], mined["txids"]) == ("mined", names)
        many = [f"{number:064x}" for number in range(5000, 9001)]
        with standin.handling:
            standin.mempool.update({name: transaction() for name in many})
            standin.mine()
        first, second = take(mempool, 2)
        assert (len(first["txids"]), len(second["txids"])) == (4000, 1)
        assert (first["unseen"], second["unseen"]) == (4000, 1)


def test_blocks_that_the_node_has_mined_are_told_although_it_says_nothing_of_mining(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url))
    standin.mining_address = "D9"
    with watching(gateway, "mining") as mining:
        with standin.handling:
            standin.mine()["miner"] = "D8"
            own = standin.mine()
            own["miner"] = "D9"
        assert take(mining, 1) == [{"kind": "block_found", "height": own["height"], "hash": own["hash"]}]


def test_a_mempool_past_the_limit_is_reported_as_a_loss(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, mempool=3))
    with watching(gateway, "mempool") as mempool:
        standin.mempool["a"] = transaction()
        take(mempool, 1)
        standin.mempool.update({name: transaction() for name in "bcde"})
        with pytest.raises(EventsLostError):
            take(mempool, 5)
        standin.mempool.clear()
        with pytest.raises(EventsLostError):  # followed again, from what is there now
            take(mempool, 1)
        standin.mempool["f"] = transaction()
        assert take(mempool, 1)[0]["txid"] == "f"


def test_peers_and_mining_are_published(standin: StandIn, gateways: GatewayFactory) -> None:
    standin.mining = {"mining": False, "hashrate": 0, "threads": 0}
    gateway = ready(gateways(standin.url))
    with watching(gateway, "peers") as peers, watching(gateway, "mining") as mining:
        looks = gateway.poller.polls
        wait_for(lambda: gateway.poller.polls > looks + 1)
        standin.peers = [{"id": 9, "addr": "10.0.0.1:8444 (services=0x01, time=0)", "inbound": False}]
        assert take(peers, 2)[1] == {
            "kind": "connected",
            "id": 9,
            "addr": "10.0.0.1:8444",
            "inbound": False,
            "peers": 1,
        }
        standin.mining = {"mining": True, "hashrate": 5, "threads": 2}
        assert [event["kind"] for event in take(mining, 2)] == ["started", "hashrate"]
        standin.mining = {"mining": False, "hashrate": 0, "threads": 0}
        assert take(mining, 1) == [{"kind": "stopped"}]


def test_a_node_that_is_behind_is_syncing(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with watching(gateway, "node") as states:
        standin.peers = [{"id": 1, "addr": "a:1", "startingheight": 200}]
        assert next(event.data for event in states if event.data["kind"] != "up") == {
            "kind": "syncing",
            "blocks": 0,
            "headers": 200,
            "progress": 0.0,
        }
        for _ in range(195):
            standin.mine()
        assert next(event.data for event in states if event.data["kind"] != "syncing") == {"kind": "up", "blocks": 195}


def test_while_it_syncs_from_far_away_blocks_are_not_published_one_by_one(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url, catch_up=20))
    with watching(gateway, "blocks") as blocks, Client(gateway.server.url) as client:
        with standin.handling:
            standin.peers = [{"id": 1, "addr": "a:1", "startingheight": 200}]
            for _ in range(100):
                standin.mine()
        wait_for(lambda: client.call("getnodestate")["kind"] == "syncing")
        with standin.handling:
            for _ in range(100):
                standin.mine()
        with pytest.raises(EventsLostError):  # the log has a new epoch
            take(blocks, 1)
        standin.mine()
        assert next(event.data["height"] for event in blocks if event.data["height"] > 200) == 201


def test_what_happened_while_the_gateway_was_away_is_made_up_for(
    standin: StandIn, gateways: GatewayFactory, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    first = ready(gateways(standin.url, event_store=store))
    with Client(first.server.url) as client:
        blocks = client.subscribe("blocks")
        for _ in range(3):
            standin.mine()
        last = [blocks.get(10) for _ in range(3)][-1]
        assert last is not None
    first.stop()
    missed = [standin.mine()["hash"] for _ in range(5)]
    standin.unwind(1)
    missed[-1] = standin.mine("b")["hash"]
    second = gateways(standin.url, event_store=store)
    with Client(second.server.url) as client:
        again = client.subscribe("blocks", since=last.position)
        assert [event["hash"] for event in take(again, 5)] == missed


def gauges(gateway: Any) -> dict[str, float]:
    """What `/metrics` says of the node."""
    with urllib.request.urlopen(gateway.server.url.replace("ws", "http", 1) + "/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    named = [line.removeprefix("dilithion_gateway_").split() for line in lines if line.startswith("dilithion_gateway_")]
    return {name: float(value) for name, value in named}


def test_how_the_node_is_doing_is_in_the_metrics(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url))
    with Client(gateway.server.url) as client:
        nodes, blocks = client.subscribe("node"), client.subscribe("blocks")
        with standin.handling:
            standin.peers = [{"id": 1, "addr": "a:1", "startingheight": 200}]
            for _ in range(50):
                standin.mine()
        take(blocks, 50)
        wait_for(lambda: client.call("getnodestate")["kind"] == "syncing")
        assert gauges(gateway) == {"node_up": 1, "node_progress": 0.25, "node_height": 50, "watching": 1}
        standin.stop()
        assert next(event.data["kind"] for event in nodes if event.data["kind"] == "down")
        assert gauges(gateway) == {"node_up": 0, "node_height": 50, "watching": 1}


@needs_redis
def test_of_several_gateways_one_watches_and_all_serve(
    standin: StandIn, gateways: GatewayFactory, redis_server: RedisServer
) -> None:
    shared = {"event_store": redis_server.url, "leader_patience": 0.5}
    first = ready(gateways(standin.url, **shared))
    second = gateways(standin.url, **shared)
    wait_for(lambda: second.server.events.topic("blocks").availability is Availability.AVAILABLE)
    with Client(second.server.url) as client:
        blocks = client.subscribe("blocks")
        hashes = [standin.mine()["hash"] for _ in range(10)]
        assert [event["hash"] for event in take(blocks, 10)] == hashes
        assert client.call("getnodestate")["kind"] == "up"
        assert client.call("waitforblockheight", 10) == {"hash": hashes[-1], "height": 10}
        assert second.poller.polls == 0
        assert gauges(second) == {"node_up": 1, "node_progress": 1, "node_height": 10, "watching": 0}
        first.stop()  # and the second takes over at once
        wait_for(second.poller.is_leading)
        last = standin.mine()["hash"]
        assert [event["hash"] for event in take(blocks, 1)] == [last]
        assert second.poller.polls


@pytest.mark.load
def test_two_thousand_clients_cost_the_node_no_more_than_one(standin: StandIn, gateways: GatewayFactory) -> None:
    gateway = ready(gateways(standin.url, connections=3000, poll_interval=0.2))

    def cost_of_a_block() -> tuple[int, int]:
        """Requests that came to the node beside the looks, which are one each, and the calls in them."""
        before = len(standin.requests)
        height = standin.mine()["height"]
        for client in clients[:: max(1, len(clients) // 50)]:
            _until(client, height)
        others = [request for request in standin.requests[before:] if b'"getrawmempool"' not in request]
        return len(others), sum(request.count(b'"method"') for request in others)

    clients = [_watcher(gateway)]
    alone = [cost_of_a_block() for _ in range(5)]
    clients += [_watcher(gateway) for _ in range(1999)]
    together = [cost_of_a_block() for _ in range(5)]
    for client in clients:
        client.close()
    assert max(together) <= max(alone)
    assert max(alone) == (2, 2)  # a hash, a block


def _watcher(gateway: Any) -> RawClient:
    client = RawClient(gateway.server.port)
    client.request("subscribe", ["blocks"])
    assert json.loads(client.frame()[1])["result"]["topic"] == "blocks"
    return client


def _until(client: RawClient, height: int) -> None:
    while True:
        params = json.loads(client.frame()[1])["params"]
        if params["result"]["height"] == height:
            return


# Parts


@pytest.mark.parametrize(
    ("numbers", "missed"),
    [
        ([0, 1, 2], [0, 0, 0]),
        ([7, 8], [0, 0]),
        ([0, 3, 4], [0, 2, 0]),
        ([5, 0, 1], [0, 1, 0]),
        ([2**32 - 1, 0], [0, 0]),
        ([4, 4], [0, 1]),
    ],
)
def test_the_numbers_of_notifications_show_lost_ones(numbers: list[int], missed: list[int]) -> None:
    sequences = ZmqSequences()
    assert [sequences.missed("hashblock", number) for number in numbers] == missed
    assert sequences.missed("rawtx", 99) == 0  # each topic counts by itself


def test_pauses_grow_with_cost_and_failures() -> None:
    pace = PollSchedule(GatewayConfig(poll_interval=1.0, poll_longest=30.0, poll_share=0.2))
    assert pace.succeeded(0.001).maximum == 1.0
    assert pace.succeeded(2.0) == (8.0, 8.0)
    assert pace.succeeded(100.0) == (30.0, 30.0)
    assert [pace.failed(0.0).maximum for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 5, 5]
    assert pace.succeeded(0.0).maximum == 1.0
    pace.has_hints = True
    assert pace.succeeded(0.0).maximum == 5.0


def test_a_node_that_limits_the_rate_is_polled_less_often_for_a_while() -> None:
    pace = PollSchedule(GatewayConfig(poll_interval=1.0))
    assert pace.failed(0.0, retry_after=60.0).maximum == 60.0
    assert 1.9 < pace.succeeded(0.0).maximum < 2.0
    for _ in range(9):
        pace.failed(0.0, retry_after=1.0)
    assert 15 < pace.succeeded(0.0).maximum < 16
    for _ in range(200):
        pace.succeeded(0.0)
    assert pace.succeeded(0.0).maximum == 1.0


def test_the_same_number_is_another_peer_after_a_restart() -> None:
    peers = PeersView()
    assert peers.update([{"id": 0, "addr": "a"}]) == []
    assert [event["kind"] for event in peers.update([{"id": 0, "addr": "b"}])] == ["disconnected", "connected"]
    assert peers.update([{"id": 0, "addr": "b"}]) == []


def test_a_node_that_does_not_say_whether_it_mines_is_not_guessed_at() -> None:
    mining = MiningView()
    for _ in range(2):
        assert mining.update({"networkhashps": 5}) == []


def test_a_node_that_hangs_is_noticed_in_time_and_others_are_answered_from_what_is_known(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    gateway = ready(gateways(standin.url, poll_timeout=0.5))
    with watching(gateway, "node") as states, Client(gateway.server.url) as client:
        assert client.call("getblockcount") == 0
        with standin.handling:  # it takes no call any more
            begin = time.monotonic()
            (down,) = take(states, 1)
            assert down["kind"] == "down"
            assert time.monotonic() - begin < 0.5 + 5
            assert client.call("getnodestate")["kind"] == "down"
            assert client.call("getblockcount") == 0, "it was asked since the tip has changed"
        (up,) = take(states, 1)
        assert up["kind"] == "up"
