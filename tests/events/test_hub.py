from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws import ConfigError, EventError, RpcError, UnknownTopicError
from dilithion_ws.events.cursor import EndOfStream
from dilithion_ws.events.hub import EventHub
from dilithion_ws.events.topic import Availability
from dilithion_ws.util.enums import OfferResult

from ..support import Clock
from ..support.hub import FakeSubscriber, add_topic, make, settle


class Store:
    """Remembers what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args[0]))


def stored() -> tuple[EventHub, Store]:
    from dilithion_ws import Limits

    store = Store()
    return EventHub(Limits.from_names(pumps=1, user_topics=2), Clock(), store), store  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "user/alice", "a\nb", "x" * 129])
def test_names_that_are_not_for_topics(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name for a topic"):
        add_topic(make(), name)


def test_a_topic_that_was_used_cannot_be_replaced() -> None:
    hub = make()
    add_topic(hub, "t")
    hub.publish("t", {"n": 1})
    with pytest.raises(ConfigError, match="topic t is in use already"):
        add_topic(hub, "t")


def test_topics_are_bounded() -> None:
    hub = make(topics=6)
    add_topic(hub, "one")
    with pytest.raises(ConfigError, match=r"past the topics limit of 6 topics \(rpcwebsockettopics\)"):
        add_topic(hub, "two")


def test_positions_are_those_of_the_log() -> None:
    hub = make()
    hub.publish("t", {"n": 1})
    found = hub.position_of("t")
    assert found is not None
    assert (found["topic"], found["seq"]) == ("t", 1)
    assert hub.position_of("none") is None


def test_an_event_that_cannot_be_encoded_is_an_error() -> None:
    hub = make()
    for event in (object(), {"n": float("nan"), "x": object()}):
        with pytest.raises(EventError):
            hub.publish("t", event)
    with pytest.raises(UnknownTopicError):
        hub.publish("none", {})


def test_bytes_in_an_event_are_hexadecimal() -> None:
    hub = make()
    hub.publish("t", {"id": b"\x00\xff"})
    assert hub.topic("t").log.newest().data == b'{"id":"00ff"}'


def test_a_new_epoch_ends_in_a_loss_for_readers() -> None:
    hub, client = make(), FakeSubscriber(1)
    cursor, reply = hub.subscribe(client, "t")
    hub.activate(cursor)
    hub.publish("t", {"n": 1})
    settle(hub)
    hub.start_new_epoch("t")
    settle(hub)
    assert hub.topic("t").log.position.epoch != reply["epoch"]
    assert client.received[-1]["error"]["data"]["reason"] == "epoch"


def test_without_a_store_a_server_leads() -> None:
    assert make().lead(["t"]).term


def test_a_store_gets_topics_events_epochs_and_terms() -> None:
    hub, store = stored()
    topic = add_topic(hub, "t")
    hub.publish("t", {"n": 1})
    assert topic.log.position.seq == 0, "the store appends it"
    hub.start_new_epoch("t")
    hub.lead(["t"])
    assert [name for name, _ in store.calls][-4:] == ["attach", "publish", "start_new_epoch", "lead"]


def test_topics_of_users_are_dropped_when_there_are_too_many() -> None:
    hub, store = stored()
    first = hub.topic("user/a")
    client = FakeSubscriber(1, user="b")
    cursor, _ = hub.subscribe(client, "user/b")
    hub.topic("user/c")
    assert ("detach", first) in store.calls
    assert cursor.topic is hub.topic("user/b")
    with pytest.raises(EventError, match="not a topic of a user"):
        hub.topic("user/\n")


def test_a_topic_whose_store_is_away_cannot_be_subscribed_to() -> None:
    hub = make()
    hub.topic("t").availability = Availability.STORE_UNREACHABLE
    with pytest.raises(RpcError, match="the event store is away"):
        hub.subscribe(FakeSubscriber(1), "t")


def test_a_client_reads_only_what_it_may() -> None:
    hub, client = make(), FakeSubscriber(1, user="alice")
    client.session.rights = 0
    for name in ("t", "user/bob"):
        with pytest.raises(RpcError) as caught:
            hub.subscribe(client, name)
        assert caught.value.code == -32003
    with pytest.raises(RpcError, match="there is no topic 'none'"):
        hub.subscribe(client, "none")


def test_subscriptions_of_a_session_end_with_its_rights() -> None:
    hub, client = make(), FakeSubscriber(1)
    cursor, _ = hub.subscribe(client, "t")
    hub.activate(cursor)
    client.session.rights = 0
    hub.recheck_rights(client.session)
    settle(hub)
    assert client.received[-1]["error"]["code"] == -32003
    assert hub.cursors.of(1) == []


def test_ending_a_subscription_twice_is_no_error() -> None:
    hub, client = make(), FakeSubscriber(1)
    cursor, reply = hub.subscribe(client, "t")
    assert hub.unsubscribe(1, reply["subscription"]) is True
    assert hub.unsubscribe(1, reply["subscription"]) is False
    hub.end_all(hub.topic("t"), EndOfStream(-1, "over", {}))
    settle(hub)
    assert client.received == []
    assert cursor.ended


def test_a_client_that_fails_is_dropped_and_the_others_are_served(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeSubscriber):
        def try_send(self, data: bytes, recipient: Any) -> OfferResult:
            raise ValueError("a fault")

    hub, broken, good = make(), Broken(1), FakeSubscriber(2)
    for client in (broken, good):
        cursor, _ = hub.subscribe(client, "t")
        hub.activate(cursor)
    hub.publish("t", {"n": 1})
    settle(hub)
    assert [params["result"] for params in good.received] == [{"n": 1}]
    assert "a fault" in caplog.text
    hub.on_closed(1)
    hub.on_closed(2)
    settle(hub)
    assert not hub.topic("t").in_use


def test_events_after_a_position_are_read_until_the_log_has_lost_them() -> None:
    hub = make()
    topic = hub.topic("t")
    for number in range(1, 4):
        hub.publish("t", {"n": number})
    epoch = topic.log.position.epoch
    assert topic.since(epoch, 1) == [{"n": 2}, {"n": 3}]
    assert topic.since(epoch, 3) == []
    for number in range(20):
        hub.publish("t", {"n": number})
    assert topic.since(epoch, 1) is None
    assert topic.since("another", 1) is None
