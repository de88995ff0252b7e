"""subscribe, unsubscribe, subscriptions and topics, called over one connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError, RpcError, RpcTable, WebSocketServer
from dilithion_ws.client import AfterBlock, Client

from ..support import RawClient
from ..support.accounts import log_in
from ..support.fixtures import ClientFactory, ServerFactory


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    server = start()
    server.topic("prices", permission="READ_BLOCKCHAIN", mode="latest", filters={"pair": "pair"})
    return server


@pytest.fixture
def client(server: WebSocketServer, connect: Callable[..., RawClient]) -> RawClient:
    return connect(server)


def test_a_subscription_is_listed_with_its_filter_and_position(client: RawClient) -> None:
    reply = client.call("subscribe", "prices", {"pair": "a"})["result"]
    (listed,) = client.call("subscriptions")["result"]
    assert listed == {
        "subscription": reply["subscription"],
        "topic": "prices",
        "filter": {"pair": "a"},
        "mode": "latest",
        "epoch": reply["epoch"],
        "seq": 0,
        "state": listed["state"],  # it goes on while this is asked
    }


def test_the_mode_of_a_subscription_may_be_chosen(client: RawClient) -> None:
    client.call("subscribe", "prices", None, None, "all")
    (listed,) = client.call("subscriptions")["result"]
    assert (listed["mode"], listed["filter"]) == ("all", None)


def test_a_subscription_ends_once(client: RawClient) -> None:
    id = client.call("subscribe", "prices")["result"]["subscription"]
    assert client.call("unsubscribe", id)["result"] is True
    assert client.call("subscriptions")["result"] == []
    assert "there is no subscription" in client.call("unsubscribe", id)["error"]["message"]


def test_a_position_of_an_answer_can_be_sent_back_as_it_is(server: WebSocketServer, client: RawClient) -> None:
    server.publish("prices", {"pair": "a", "price": 1})
    epoch = server.events.topic("prices").log.position.epoch
    position = {"topic": "prices", "epoch": epoch, "seq": 0}
    error = client.call("subscribe", "blocks", None, position)["error"]
    assert (error["code"], "`since` is a position in the topic 'prices'" in error["message"]) == (-32602, True)
    assert client.call("subscribe", "prices", None, position)["result"]["recovered"] is True


def test_topics_are_listed_with_filters_and_positions(server: WebSocketServer, client: RawClient) -> None:
    server.publish("prices", {"pair": "a", "price": 1})
    topics = {topic.pop("topic"): topic for topic in client.call("topics")["result"]}
    assert set(topics) == {"blocks", "mempool", "peers", "mining", "prices"}
    epoch = server.events.topic("prices").log.position.epoch
    assert topics["prices"] == {
        "permission": "READ_BLOCKCHAIN",
        "mode": "latest",
        "filters": ["pair"],
        "epoch": epoch,
        "seq": 1,
        "first": 1,
    }


def test_a_user_has_a_topic_of_their_own(guarded: WebSocketServer, connect: ClientFactory) -> None:
    names = [topic["topic"] for topic in log_in(guarded, "reader", connect).call("topics")["result"]]
    assert "user/reader" in names


def test_a_subscription_resumes_after_a_position(server: WebSocketServer) -> None:
    for price in (1, 2):
        server.publish("prices", {"pair": "a", "price": price})
    epoch = server.events.topic("prices").log.position.epoch
    with Client(server.url) as client:
        events = client.subscribe("prices", since=(epoch, 1), mode="all")
        event = events.get(10)
        assert event is not None
        assert (event.seq, event.data["price"]) == (2, 2)


def test_a_topic_that_does_not_exist_is_refused(server: WebSocketServer) -> None:
    with Client(server.url) as client, pytest.raises(RpcError, match="there is no topic 'none'"):
        client.subscribe("none")


@pytest.mark.parametrize(
    "since",
    [
        {},
        {"epoch": "a"},
        {"seq": 1},
        {"hash": "ab"},
        {"epoch": "a", "seq": 1, "height": 1},
        {"epoch": "a", "seq": 1, "hash": "ab"},
        {"height": 1, "seq": 1},
        {"height": 1, "hash": "ab\n"},
    ],
)
def test_a_place_to_begin_is_either_a_position_or_a_block(client: RawClient, since: dict[str, object]) -> None:
    error = client.call("subscribe", "blocks", None, since)["error"]
    assert error["code"] == -32602
    assert "`since` takes `epoch` and `seq`, or `height`" in error["message"]
    assert client.call("subscriptions")["result"] == []


def test_a_block_is_no_place_to_begin_for_the_newest_event_only(client: RawClient) -> None:
    error = client.call("subscribe", "blocks", None, {"height": 1}, "latest")["error"]
    assert (error["code"], error["message"]) == (-32602, 'Invalid params: this takes the mode "all"')


def test_a_block_is_refused_as_a_place_where_there_is_no_history(client: RawClient) -> None:
    reply = client.call("subscribe", "blocks", None, {"height": 1})["result"]
    assert (reply["recovered"], reply["reason"]) == (False, "history")


def blocks(start: int, count: int) -> list[dict[str, Any]]:
    heights = range(start, min(start + count, 4))
    return [
        {
            "kind": "connected",
            "height": height,
            "hash": f"{height:064x}",
            "previousblockhash": f"{height - 1:064x}",
            "time": 0,
            "tx_count": 1,
        }
        for height in heights
    ]


@pytest.fixture
def with_history(rpc: RpcTable) -> Iterator[WebSocketServer]:
    server = WebSocketServer(rpc, Config(port=0))
    server.history("blocks", blocks)
    server.transactions(lambda block: [{"txid": block}])
    with server:
        yield server


def test_a_subscription_begins_after_a_block_of_the_history(with_history: WebSocketServer) -> None:
    with Client(with_history.url) as client:
        events = client.subscribe("blocks", since=AfterBlock(1))
        heights = []
        while len(heights) < 2:
            event = events.get(10)
            assert event is not None
            heights.append(event.data["height"])
    assert heights == [2, 3]


def test_transactions_are_followed_from_a_block_only(
    with_history: WebSocketServer, connect: Callable[..., RawClient]
) -> None:
    error = connect(with_history).call("subscribe", "transactions", {"txid": ["aa"]}, {"epoch": "a", "seq": 1})["error"]
    assert (error["code"], "`since` takes a block here" in error["message"]) == (-32602, True)


@pytest.mark.parametrize(
    "params",
    [["blocks", None, {"height": 1}], ["transactions", {"txid": ["aa"]}]],
    ids=["from a block", "transactions"],
)
def test_a_subscription_that_reads_the_chain_is_not_for_a_batch(
    with_history: WebSocketServer, connect: Callable[..., RawClient], params: list[object]
) -> None:
    client = connect(with_history)
    calls = [{"method": "subscribe", "params": params, "id": 1}, {"method": "topics", "id": 2}]
    client.text(json.dumps(calls))
    refused, topics = client.answer()
    assert "can't be part of a batch" in refused["error"]["message"]
    assert topics["result"]
    assert client.call("subscriptions")["result"] == []


def test_clients_of_other_chains_are_sent_to_subscribe_for_transactions(
    with_history: WebSocketServer, connect: Callable[..., RawClient]
) -> None:
    client = connect(with_history)
    error = client.call("dilithion_subscribe", "transactions", {"txid": ["aa"]})["error"]
    assert (error["code"], "takes `subscribe`" in error["message"]) == (-32602, True)
    assert client.call("subscriptions")["result"] == []


def test_the_id_is_the_topic_unless_there_is_more_to_say(client: RawClient) -> None:
    ids = [
        client.call("subscribe", *params)["result"]["subscription"]
        for params in (["prices"], ["prices", {"pair": "a"}], ["prices", {"pair": "b"}], ["prices", None, None, "all"])
    ]
    assert ids[0] == "prices"
    assert len(set(ids)) == 4


def test_a_filter_that_names_nothing_to_follow_leaves_no_subscription(
    with_history: WebSocketServer, connect: Callable[..., RawClient]
) -> None:
    client = connect(with_history)
    assert client.call("subscribe", "transactions")["error"]["code"] == -32602
    assert client.call("subscriptions")["result"] == []


def test_a_history_and_transactions_are_offered_before_the_start(with_history: WebSocketServer) -> None:
    with pytest.raises(ConfigError, match=r"history\(\)"):
        with_history.history("blocks", blocks)
    with pytest.raises(ConfigError, match=r"transactions\(\)"):
        with_history.transactions(lambda block: [])


def test_the_form_of_other_chains(server: WebSocketServer, client: RawClient) -> None:
    """Of Geth's client, jsonrpsee and polkadot: `x_subscribe` returns an id, and `x_subscription` has it."""
    id = client.call("dilithion_subscribe", "prices", {"pair": "a"})["result"]
    own = client.call("subscribe", "prices", {"pair": "a"})["result"]["subscription"]
    assert isinstance(id, str)
    assert id != own
    server.publish("prices", {"pair": "a", "price": 1})
    server.publish("prices", {"pair": "b", "price": 2})
    found = {message["method"]: message["params"] for message in (client.answer(), client.answer())}
    assert found["dilithion_subscription"]["subscription"] == id
    assert found["dilithion_subscription"]["result"] == found["subscription"]["result"] == {"pair": "a", "price": 1}
    assert client.call("dilithion_unsubscribe", id)["result"] is True
    assert client.call("dilithion_unsubscribe", id)["error"]["code"] == -32602
    assert [one["subscription"] for one in client.call("subscriptions")["result"]] == [own]
    assert client.call("dilithion_subscribe", "nosuch")["error"]["code"] == -32602
    assert client.call("dilithion_subscribe", "prices", None, "all")["result"].startswith("prices-")
