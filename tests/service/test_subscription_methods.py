"""subscribe, unsubscribe, subscriptions and topics, called over one connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dilithion_ws import RpcError, WebSocketServer
from dilithion_ws.client import Client

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
