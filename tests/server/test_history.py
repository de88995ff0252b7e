"""Subscribing from a block, and following transactions, over real connections."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dilithion_ws import RpcTable
from dilithion_ws.devnode import DevNode

from ..support import RawClient
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.subscriptions import block, events, subscribe


def served(start: ServerFactory, node: DevNode) -> Any:
    """Start a server with the history of a development node. `start` has started it already, so it starts again."""
    server = start(RpcTable())
    server.stop(1.0)
    server.history("blocks", node.read_blocks, node.find_block)
    server.transactions(node.read_transactions, node.read_mempool)
    node.publish = server.publish
    return server.start()


def follow(client: RawClient, tip: str, last: str) -> list[dict[str, Any]]:
    """Read events until a block is the tip. Each must follow from the one before."""
    seen: list[dict[str, Any]] = []
    while tip != last:
        event = client.answer()["params"]["result"]
        connects = event["kind"] == "connected"
        assert tip == event["previousblockhash" if connects else "hash"]
        tip = event["hash" if connects else "previousblockhash"]
        seen.append(event)
    return seen


def test_a_wallet_comes_back_after_a_reorganisation_and_a_restart(start: ServerFactory, connect: ClientFactory) -> None:
    node = DevNode(seed=4, mining=False)
    stale = node.chain.tip
    with node.changed:
        node._reorganise()
    node.generate(300, node.wallet.addresses[0])
    server = served(start, node)  # its log is empty
    client = connect(server)
    reply = subscribe(client, since={"height": stale.height, "hash": stale.hash})
    assert reply["recovered"] is True
    seen = follow(client, stale.hash, node.chain.tip.hash)
    assert [event["kind"] for event in seen] == ["disconnected"] + ["connected"] * (len(seen) - 1)
    node.generate(3, node.wallet.addresses[0])
    live = events(client, 3)
    assert [params["result"]["height"] for params in live] == [
        node.chain.height - 2,
        node.chain.height - 1,
        node.chain.height,
    ]
    assert "seq" in live[-1]


def test_clients_come_while_blocks_do(start: ServerFactory, connect: ClientFactory) -> None:
    node = DevNode(seed=4, mining=False)
    server = served(start, node)
    stopping = threading.Event()

    def mine() -> None:
        while not stopping.wait(0.001):
            with node.changed:
                node._reorganise() if node.chain.height % 3 == 0 else node.generate(1, node.wallet.addresses[0])

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        clients = []
        for height in range(0, 100, 5):
            client = connect(server)
            start_hash = node.chain.active[height].hash
            reply = subscribe(client, since={"height": height})
            assert reply["recovered"] is True
            clients.append((client, start_hash))
    finally:
        stopping.set()
        miner.join()
    node.generate(1, node.wallet.addresses[0])
    for client, start_hash in clients:
        follow(client, start_hash, node.chain.tip.hash)


@pytest.mark.parametrize(
    "since",
    [
        {},
        {"epoch": "a"},
        {"seq": 1},
        {"hash": "00"},
        {"epoch": "a", "seq": 1, "height": 3},
        {"epoch": "a", "seq": 1, "hash": "00"},
        {"height": 1, "epoch": "a"},
        {"height": -2},
        {"height": "1"},
        {"height": 1, "has": "00"},
        {"height": 1, "hash": ""},
        {"height": 1, "hash": "00\n"},
        {"height": 1, "hash": 'a"]},{"method":"stop","params":[]},{"id":2,"method":"x","params":["'},
    ],
)
def test_a_since_that_is_neither_a_position_nor_a_block_is_refused(
    start: ServerFactory, connect: ClientFactory, since: Any
) -> None:
    client = connect(start(RpcTable()))
    reply = subscribe(client, since=since)
    assert reply["error"]["code"] == -32602


def test_the_newest_event_alone_is_not_read_from_the_chain(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(RpcTable()))
    reply = subscribe(client, since={"height": 1}, mode="latest")
    assert 'this takes the mode "all"' in reply["error"]["message"]


def test_a_host_without_a_history_says_so(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(RpcTable())
    client = connect(server)
    reply = subscribe(client, since={"height": 1})
    assert (reply["recovered"], reply["reason"]) == (False, "history")
    server.publish("blocks", block(5))
    assert events(client, 1)[0]["result"]["height"] == 5


def test_a_host_that_hangs_holds_up_nobody_else(start: ServerFactory, connect: ClientFactory) -> None:
    hanging, entered = threading.Event(), threading.Event()

    def read(height: int, count: int) -> list[dict[str, Any]]:
        entered.set()
        hanging.wait()
        return []

    server = start(RpcTable(), call_timeout=0.2)
    server.stop(1.0)
    server.history("blocks", read)
    server.start()
    try:
        slow, live = connect(server), connect(server)
        subscribe(live)
        slow.request("subscribe", {"topic": "blocks", "since": {"height": 1}}, id="s")
        assert entered.wait(10)
        server.publish("blocks", block(5))
        assert events(live, 1)[0]["result"]["height"] == 5
        assert slow.answer()["error"]["code"] == -32002
        assert server.events.cursors.of(1) == [] or len(server.events.cursors.all()) == 1
    finally:
        hanging.set()


def test_a_client_that_unsubscribes_meanwhile_gets_nothing_more(start: ServerFactory, connect: ClientFactory) -> None:
    node = DevNode(seed=4, mining=False)
    node.generate(500, node.wallet.addresses[0])
    client = connect(served(start, node))
    client.request("subscribe", {"topic": "blocks", "since": {"height": 1}}, id=1)
    client.request("unsubscribe", ["blocks"], id=2)
    seen = [client.answer()]
    assert "incident" not in str(seen)
    while seen[-1].get("id") != 2:
        seen.append(client.answer())
    client.request("subscriptions", id=3)
    while seen[-1].get("id") != 3:
        seen.append(client.answer())
    after = [answer for answer in seen[[answer.get("id") for answer in seen].index(2) :] if "method" in answer]
    assert after == []
    assert seen[-1]["result"] == []


def test_a_payment_is_followed_through_a_restart(start: ServerFactory, connect: ClientFactory) -> None:
    node = DevNode(seed=4, mining=False)
    server = served(start, node)
    payee = node.wallet.new_address()
    client = connect(server)
    reply = subscribe(client, "transactions", filter={"address": payee, "confirmations": 3})
    before = node.chain.active[node.chain.height - 3]
    assert reply["since"] == {"height": before.height, "hash": before.hash}
    tx, _ = node.others.build(payee, 5_000_000)
    node.submit(tx)
    seen = events(client, 1)
    node.generate(1, node.others.addresses[0])
    seen += events(client, 1)
    assert [params["result"]["kind"] for params in seen] == ["seen", "confirmed"]
    server.stop(1.0)
    node.generate(5, node.others.addresses[0])
    server.start()
    client = connect(server)
    options = {"filter": {"address": payee, "confirmations": 3}, "since": seen[-1]["since"]}
    assert subscribe(client, "transactions", **options)["recovered"] is True
    assert [params["result"]["confirmations"] for params in events(client, 2)] == [2, 3]


def test_what_follows_nothing_is_refused(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(served(start, DevNode(seed=4, mining=False)))
    position = {"epoch": "a", "seq": 1}
    for options in (
        {},
        {"filter": {"kind": "seen"}},
        {"filter": {"txid": "a"}, "mode": "latest"},
        {"filter": {"txid": "a"}, "since": position},
    ):
        assert subscribe(client, "transactions", **options)["error"]["code"] == -32602
    client.request("subscriptions", id=1)
    assert client.answer()["result"] == []


def test_without_a_host_that_can_tell_there_is_no_such_topic(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(RpcTable()))
    reply = subscribe(client, "transactions", filter={"txid": "a"})
    assert "there is no topic 'transactions'" in reply["error"]["message"]
