"""Mempool, peers and mining go on without a hole when another gateway takes over, or the same one comes back."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import RpcError
from dilithion_ws.client import Client
from dilithion_ws.gateway.node_view import MempoolTransaction, MempoolView, MinedBlock, MiningView, PeersView

from ..support import RedisServer, needs_redis, wait_for
from ..support.accounts import write_users
from ..support.gateways import GatewayFactory, ready, take, transaction
from ..support.standin import StandIn

TOPICS = ("mempool", "peers", "mining")


def kept(gateway: Any) -> None:
    """Waits until the views of now are kept."""
    hub = gateway.server.events

    def is_kept() -> bool:
        entry = hub.topic("node/views").log.newest()
        if entry is None:
            return False
        places = json.loads(entry.data)["places"]
        return all(list(hub.topic(name).log.position) == places[name] for name in TOPICS)

    gateway.poller._snapshots._saved_at = float("-inf")
    wait_for(is_kept, what="views that are kept")


def test_the_views_are_for_admins(standin: StandIn, gateways: GatewayFactory, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    write_users(users, reader="readonly", root="admin")
    store = f"sqlite:{tmp_path / 'events.db'}"
    gateway = ready(gateways(standin.url, event_store=store, users_file=str(users), insecure=False))
    with Client(gateway.server.url, user="reader", password="readerreader") as client:
        with pytest.raises(RpcError) as caught:
            client.call("subscribe", "node/views")
        assert caught.value.code == -32003
    with Client(gateway.server.url, user="root", password="rootroot") as client:
        assert client.call("subscribe", "node/views")["topic"] == "node/views"


def change(standin: StandIn, name: str) -> None:
    """Something of everything: a transaction and a peer come, another transaction goes, mining starts or stops."""
    with standin.handling:
        if standin.mempool:
            del standin.mempool[next(iter(standin.mempool))]
        standin.mempool[name] = transaction()
        standin.peers = [*standin.peers[-1:], {"id": len(name), "addr": f"{name}:8444", "inbound": True}]
        mining = not standin.mining["mining"]
        standin.mining = {"mining": mining, "hashrate": 0, "threads": 1}


@pytest.mark.parametrize("when", ["kept", "told since"])
@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=needs_redis)])
def test_who_takes_over_goes_on_with_everything(
    store: str, when: str, standin: StandIn, gateways: GatewayFactory, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    standin.mining = {"mining": False, "hashrate": 0, "threads": 1}
    standin.mempool["old"] = transaction()
    where = f"sqlite:{tmp_path / 'events.db'}" if store == "sqlite" else request.getfixturevalue("redis_server").url
    first = ready(gateways(standin.url, event_store=where, leader_patience=0.5))
    kept(first)
    with Client(first.server.url) as client:
        subscriptions = [client.subscribe(name) for name in TOPICS]
        change(standin, "a")
        seen = [take(subscriptions[0], 2), take(subscriptions[1], 1), take(subscriptions[2], 1)]
        if when == "kept":
            kept(first)
        places = [subscription.position for subscription in subscriptions]
    first.stop()
    change(standin, "bb")
    second = ready(gateways(standin.url, event_store=where, leader_patience=0.5))
    with Client(second.server.url) as client:
        again = [client.subscribe(name, since=place) for name, place in zip(TOPICS, places, strict=True)]
        wait_for(lambda: second.poller.polls > 1)
        change(standin, "ccc")
        told = [take(again[0], 4), take(again[1], 4), take(again[2], 2)]
    assert [(event["kind"], event["txid"], event["sequence"]) for event in seen[0] + told[0]] == [
        ("removed", "old", 1),
        ("added", "a", 2),
        ("removed", "a", 3),
        ("added", "bb", 4),
        ("removed", "bb", 5),
        ("added", "ccc", 6),
    ]
    assert [(event["kind"], event["addr"].partition(":")[0]) for event in seen[1] + told[1]] == [
        ("connected", "a"),
        ("disconnected", "127.0.0.1"),
        ("connected", "bb"),
        ("disconnected", "a"),
        ("connected", "ccc"),
    ]
    assert [event["kind"] for event in seen[2] + told[2]] == ["started", "stopped", "started"]


@needs_redis
def test_views_that_are_too_large_start_a_new_epoch(
    standin: StandIn, gateways: GatewayFactory, redis_server: RedisServer
) -> None:
    options = {"event_store": redis_server.url, "leader_patience": 0.5, "event_size": 1000}
    standin.mempool.update({f"{n:064}": transaction() for n in range(20)})
    first = ready(gateways(standin.url, **options))
    kept(first)
    with Client(first.server.url) as client:
        mempool, peers = client.subscribe("mempool"), client.subscribe("peers")
        standin.mempool["a"] = transaction()
        take(mempool, 1)
        places = mempool.position, peers.position
    first.stop()
    second = ready(gateways(standin.url, **options))
    wait_for(lambda: second.poller.polls > 1)
    with Client(second.server.url) as client:
        (lost,) = [client.call("subscribe", "mempool", None, {"epoch": places[0].epoch, "seq": places[0].seq})]
        assert (lost["recovered"], lost["reason"]) == (False, "epoch")
        found = client.call("subscribe", "peers", None, {"epoch": places[1].epoch, "seq": places[1].seq})
        assert found["recovered"] is True


def test_a_view_that_was_kept_and_followed_is_the_view_itself() -> None:
    chance = random.Random(5)
    mempool, peers, mining = MempoolView({"x": MempoolTransaction(5)}), PeersView(), MiningView()
    peers.update([])
    mining.update({"mining": False})
    events: list[tuple[str, Any]] = []
    copies: dict[str, Any] = {}
    for turn in range(300):
        if turn in (0, 150):
            copies = {"mempool": MempoolView.of(_json(mempool.state())), "peers": PeersView.of(_json(peers.state()))}
            copies["mining"] = MiningView.of(_json(mining.state()))
            events.clear()
        known = list(mempool._known)
        if known and chance.random() < 0.5:
            gone = chance.sample(known, chance.randint(1, min(3, len(known))))
            if chance.random() < 0.5:
                events += [("mempool", event) for event in mempool.mine(MinedBlock(turn, "00", (*gone, "unseen")))]
            else:
                events.append(("mempool", mempool.remove(gone[0], "unknown")))
        else:
            one = MempoolTransaction(turn, Decimal(turn) / 10**8, ("D",) if turn % 2 else ())
            events.append(("mempool", mempool.add(f"{turn}", one)))
        now = [{"id": n, "addr": f"{n}:1", "inbound": n % 2 == 0} for n in range(9) if chance.random() < 0.5]
        events += [("peers", event) for event in peers.update(now)]
        state = {"mining": chance.random() < 0.7, "hashrate": chance.choice([0, 5]), "threads": chance.choice([1, 2])}
        events += [("mining", event) for event in mining.update(state)]
    for name, event in events:
        copies[name].apply(_json(event))
    assert copies["mempool"].state() == mempool.state()
    assert sorted(copies["peers"].state()) == sorted(peers.state())
    assert copies["mining"].state()[0] == mining.state()[0]


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=float))
