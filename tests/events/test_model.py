"""Log, streams, cursors and shards against a plain list: whatever happens, each subscriber gets what it should."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dilithion_ws import EventError, Limits, RpcError, UnknownTopicError
from dilithion_ws.auth.permissions import ROLES, Permission
from dilithion_ws.errors import ConfigError
from dilithion_ws.events.cursor import CursorState
from dilithion_ws.events.hub import EventHub
from dilithion_ws.events.log import Retention
from dilithion_ws.events.stream import Mode
from dilithion_ws.util.enums import OfferResult
from dilithion_ws.util.position import Position

from ..support import Clock
from ..support.hub import FakeSubscriber, LineEncoder, add_topic, make, settle


class Reader:
    """What the model knows of one subscription."""

    def __init__(
        self, client: FakeSubscriber, subscription: Any, filter: dict[str, Any] | None, at: int, mode: str
    ) -> None:
        self.client, self.subscription, self.filter, self.at, self.mode = client, subscription, filter, at, mode
        self.ended = False


class Model(RuleBasedStateMachine):
    """The log is a list here, and a subscriber a number into it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.hub = make(self.clock)
        self.topic = self.hub.topic("t")
        self.events: list[dict[str, Any]] = []
        self.readers: list[Reader] = []
        self.vanished: list[Reader] = []
        self.next_id = 1
        self.looked_at = 0  # the last event that the pump has seen
        self.unseen = 0  # the last one that was dropped unread: it might have matched

    def wanted(self, reader: Reader, seq: int) -> bool:
        event, filter = self.events[seq - 1], reader.filter or {}
        kind_fits = "kind" not in filter or event["kind"] in filter["kind"]
        return kind_fits and ("tag" not in filter or filter["tag"] in event["tags"])

    @rule(kind=st.sampled_from("ab"), tags=st.lists(st.sampled_from("xyz"), unique=True))
    def publish(self, kind: str, tags: list[str]) -> None:
        event = {"kind": kind, "tags": tags, "n": len(self.events) + 1}
        self.events.append(event)
        self.hub.publish("t", event)

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 40.0

    @rule(
        back=st.integers(0, 12),
        filter=st.sampled_from([None, {"kind": ["a"]}, {"tag": "x"}, {"tag": "y", "kind": ["a", "b"]}]),
        room=st.sampled_from([1, 400, 1 << 30]),
        live=st.booleans(),
        mode=st.sampled_from(["all", "latest"]),
    )
    def subscribe(self, back: int, filter: dict[str, Any] | None, room: int, live: bool, mode: str) -> None:
        client = FakeSubscriber(self.next_id, room)
        self.next_id += 1
        head = len(self.events)
        since = None if live else Position(self.topic.log.position.epoch, max(0, head - back))
        first = self.topic.log.first
        subscription, reply = self.hub.subscribe(client, "t", filter, since, Mode(mode))
        assert reply["seq"] == head
        at = head
        if since is not None:
            assert reply["recovered"] is (since.seq >= first - 1)
            at = since.seq if reply["recovered"] else head
        self.hub.activate(subscription)
        self.readers.append(Reader(client, subscription, filter, at, mode))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def read(self, data: Any) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        reader.client.left = reader.client.room
        self.hub.on_writable(reader.client.id)

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), how=st.sampled_from(["unsubscribe", "close", "vanish"]))
    def leave(self, data: Any, how: str) -> None:
        reader = data.draw(st.sampled_from(self.readers))
        self.readers.remove(reader)
        if how == "unsubscribe":
            assert self.hub.unsubscribe(reader.client.id, reader.subscription.stream.id) is not reader.ended
        elif how == "close":
            self.hub.on_closed(reader.client.id)
        else:
            reader.client.gone = True
            self.vanished.append(reader)

    def note_unseen(self) -> None:
        if self.topic.log.first - 1 > self.looked_at:
            self.unseen = self.topic.log.first - 1

    @rule()
    def deliver(self) -> None:
        self.note_unseen()
        settle(self.hub)
        self.looked_at = len(self.events)
        for reader in self.readers:
            self.check(reader)

    def check(self, reader: Reader) -> None:
        for params in reader.client.received:
            assert not reader.ended, "nothing comes behind the end"
            if "error" in params:
                reader.ended = True
                assert params["error"]["data"]["reason"] == "expired"
                assert params["error"]["data"]["seq"] == reader.at
                dropped = range(reader.at + 1, self.topic.log.first)
                assert reader.at < self.unseen or any(self.wanted(reader, seq) for seq in dropped)
                continue
            seq = params["seq"]
            assert params["result"] == self.events[seq - 1]
            assert self.wanted(reader, seq)
            assert seq > reader.at
            assert params["prev"] < seq
            if reader.mode == "all":
                assert params["prev"] <= reader.at, "prev tells that nothing is missing"
                assert not any(self.wanted(reader, between) for between in range(reader.at + 1, seq))
            reader.at = seq
        reader.client.received.clear()
        waits = reader.client.left <= 0
        if not reader.ended and not waits:
            rest = [seq for seq in range(reader.at + 1, len(self.events) + 1) if self.wanted(reader, seq)]
            kept = [seq for seq in rest if seq >= self.topic.log.first]
            assert not (kept if reader.mode == "latest" else rest), "a client that reads has everything"

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.topic.log) <= 8
        for stream in self.topic._streams.values():
            assert len(stream._matches) <= 8 + 256

    def teardown(self) -> None:
        for reader in self.readers + self.vanished:
            self.hub.on_closed(reader.client.id)
        settle(self.hub)
        assert not self.topic.in_use
        assert not self.hub.cursors.all()
        assert self.hub.shards[0].is_empty


Model.TestCase.settings = settings(max_examples=80, stateful_step_count=30)
TestModel = Model.TestCase


def subscribe(hub: EventHub, client: FakeSubscriber, topic: str = "t", **options: Any) -> Any:
    if "mode" in options:
        options["mode"] = Mode(options["mode"])
    subscription, reply = hub.subscribe(client, topic, **options)
    hub.activate(subscription)
    return reply


def test_subscribers_of_one_stream_get_the_same_bytes() -> None:
    hub, clients = make(), [FakeSubscriber(at) for at in range(5)]
    for client in clients:
        subscribe(hub, client)
    hub.publish("t", {"kind": "a"})
    settle(hub)
    assert len({json.dumps(client.received) for client in clients}) == 1
    assert clients[0].received[0]["subscription"] == "t"


def test_a_held_subscription_gets_nothing_before_its_reply() -> None:
    hub, client = make(), FakeSubscriber(1)
    subscription, _ = hub.subscribe(client, "t")
    hub.publish("t", {"kind": "a"})
    settle(hub)
    assert client.received == []
    hub.activate(subscription)
    settle(hub)
    assert [params["seq"] for params in client.received] == [1]


def test_a_subscription_whose_reply_was_never_sent_leaves_nothing() -> None:
    hub, client = make(), FakeSubscriber(1)
    subscription, _ = hub.subscribe(client, "t")
    hub.cancel(subscription)
    hub.activate(subscription)
    hub.publish("t", {"kind": "a"})
    settle(hub)
    assert client.received == []
    assert hub.cursors.of(1) == []


def test_latest_skips_to_the_newest() -> None:
    hub, client = make(), FakeSubscriber(1, room=1)
    subscribe(hub, client, mode="latest")
    hub.publish("t", {"kind": "a", "n": 1})
    settle(hub)
    for number in range(2, 6):
        hub.publish("t", {"kind": "a", "n": number})
        settle(hub)
    client.left = 1
    hub.on_writable(1)
    settle(hub)
    assert [params["result"]["n"] for params in client.received] == [1, 5]


def test_a_new_epoch_ends_subscriptions_of_the_old_one() -> None:
    hub, plain, filtered = make(), FakeSubscriber(1), FakeSubscriber(2)
    subscribe(hub, plain)
    subscribe(hub, filtered, filter={"kind": "a"})
    topic = hub.topic("t")
    topic.log.start_new_epoch("new")
    hub.announce(topic)
    settle(hub)
    for client in (plain, filtered):
        assert [params["error"]["data"]["reason"] for params in client.received] == ["epoch"]
    assert hub.cursors.of(1) == hub.cursors.of(2) == []


def test_limits_and_bad_requests_have_clear_errors() -> None:
    hub, client = make(subscriptions=2, filter_values=3, filter_size=10), FakeSubscriber(1)
    for options, words in (
        ({"topic": "nosuch"}, "there is no topic 'nosuch'; there are blocks"),
        ({"filter": {"colour": "red"}}, "this topic is filtered by kind, tag"),
        ({"filter": {"kind": {}}}, "takes a string, a whole number, a boolean"),
        ({"filter": {"kind": list("abcd")}}, r"limit of 3 \(rpcwebsocketfiltervalues\)"),
        ({"filter": {"kind": ["abcdef", "ghijk"]}}, r"limit of 10 \(rpcwebsocketfiltersize\)"),
    ):
        with pytest.raises(RpcError, match=words):
            subscribe(hub, client, **options)  # type: ignore[arg-type]
    subscribe(hub, client)
    with pytest.raises(RpcError, match="subscribed already as t"):
        subscribe(hub, client)
    subscribe(hub, client, filter={"kind": "a"})
    with pytest.raises(RpcError, match=r"2 subscriptions \(rpcwebsocketsubscriptions\)") as caught:
        subscribe(hub, client, filter={"kind": "b"})
    assert caught.value.code == -32006
    hub.on_closed(1)
    settle(hub)
    assert not hub.topic("t").in_use, "a refused subscription leaves no stream"


def test_a_long_log_is_searched_in_pieces_while_others_get_their_events() -> None:
    hub = make()
    topic = add_topic(hub, "long", filters={"kind": "kind"})
    for number in range(20_000):
        hub.publish("long", {"kind": "ab"[number % 1000 == 0], "n": number, "pad": "x" * 100})
    begin = Position(topic.log.position.epoch, 0)
    late = [FakeSubscriber(number) for number in range(1, 9)]
    cursors = []
    for client in late:
        cursor, reply = hub.subscribe(client, "long", {"kind": ["b", f"c{client.id}"]}, begin)
        assert reply["recovered"]
        assert cursor.searched_events == 20_000
        hub.activate(cursor)
        cursors.append(cursor)
    prompt = FakeSubscriber(9)
    hub.activate(hub.subscribe(prompt, "long")[0])
    turns = 0
    while any(len(client.received) < 20 for client in late):
        turns += 1
        hub.publish("long", {"kind": "a", "n": -turns})
        with hub.shards[0].step_lock:
            hub.shards[0].step()
        assert len(prompt.received) == turns, "each turn has the new event of the others"
    assert turns > 20
    for client in late:
        assert [params["result"]["n"] for params in client.received] == list(range(0, 20_000, 1000))
        assert [params["prev"] for params in client.received][1:] == [1 + 1000 * index for index in range(19)]
    again, _ = hub.subscribe(FakeSubscriber(10), "long", {"kind": ["b", "c1"]}, begin)
    assert again.searched_events == 0, "the stream knows it now"


def test_a_search_that_the_log_overtakes_ends_with_the_reason() -> None:
    hub = make()
    topic = add_topic(hub, "long", filters={"kind": "kind"}, retention=Retention(2000, 100.0, 1 << 20))
    for number in range(2000):
        hub.publish("long", {"kind": "a", "n": number, "pad": "x" * 100})
    client = FakeSubscriber(1)
    hub.activate(hub.subscribe(client, "long", {"kind": "a"}, Position(topic.log.position.epoch, 0))[0])
    hub.publish("long", {"kind": "a", "n": 2000})
    settle(hub)
    assert [params["error"]["data"]["reason"] for params in client.received] == ["expired"]


@pytest.mark.parametrize("mode", ["all", "latest"])
def test_filtered_readers_learn_where_a_log_without_a_loss_goes_on(mode: str) -> None:
    hub = make()
    topic = hub.topic("t")
    readers = {name: FakeSubscriber(number) for number, name in enumerate(("read", "none", "behind"), 1)}
    kinds = {"read": "a", "none": "z", "behind": "a"}
    for name, client in readers.items():
        hub.activate(hub.subscribe(client, "t", {"kind": kinds[name]}, None, Mode(mode))[0])
    readers["behind"].left = 0
    for kind in "aab":
        hub.publish("t", {"kind": kind, "tags": []})
    settle(hub)
    topic.log.start_new_epoch("after", is_whole=True)
    hub.publish("t", {"kind": "a", "tags": []})
    readers["behind"].left = 1000
    hub.on_writable(readers["behind"].id)
    settle(hub)
    ends = {name: client.received[-1]["error"]["data"] for name, client in readers.items()}
    assert {end["reason"] for end in ends.values()} == {"epoch"}
    assert ends["read"]["next"] == ends["none"]["next"] == {"epoch": "after", "seq": 0}
    assert "next" not in ends["behind"]


def test_filters_that_mean_the_same_share_a_stream() -> None:
    hub, first, second = make(), FakeSubscriber(1), FakeSubscriber(2)
    one = subscribe(hub, first, filter={"kind": ["a", "b"], "tag": "x"})
    two = subscribe(hub, second, filter={"tag": ["x"], "kind": ["b", "a"]})
    assert one["subscription"] == two["subscription"]
    numbers = subscribe(hub, second, filter={"kind": 1})
    texts = subscribe(hub, second, filter={"kind": "1"})
    assert numbers["subscription"] != texts["subscription"]


def test_events_that_are_not_fit_are_refused_to_their_publisher() -> None:
    hub = make(event_size=200)
    for topic, event, words in (
        ("blocks", {"kind": "gone"}, "Invalid value 'gone'"),
        ("blocks", {"kind": "connected", "height": "7"}, "Expected `int`"),
        ("t", object(), "can't be encoded"),
        ("t", {"kind": "x" * 300}, r"limit of 200 bytes \(rpcwebsocketeventsize\)"),
    ):
        with pytest.raises(EventError, match=words):
            hub.publish(topic, event)
    with pytest.raises(UnknownTopicError, match="there is no topic 'nosuch'"):
        hub.publish("nosuch", {})
    assert hub.topic("blocks").log.position.seq == hub.topic("t").log.position.seq == 0


def test_topics_of_the_host() -> None:
    hub = make(topics=6)
    add_topic(hub, "mine", permission="READ_WALLET", mode="latest", filters={})
    with pytest.raises(ConfigError, match="past the topics limit"):
        add_topic(hub, "too many")
    for name in ("", "user/x", "a\nb", "x" * 200):
        with pytest.raises(ConfigError, match="is not a name for a topic"):
            add_topic(hub, name)
    add_topic(hub, "mine", permission="READ_MEMPOOL")
    hub.publish("mine", 1)
    with pytest.raises(ConfigError, match="is in use already"):
        add_topic(hub, "mine")


def test_a_users_topic_is_for_that_user_alone_and_outlives_a_disconnect() -> None:
    hub = make(user_topics=2)
    alice, bob = FakeSubscriber(1, user="alice"), FakeSubscriber(2, user="bob")
    position = subscribe(hub, alice, "user/alice")
    for other, name in ((bob, "user/alice"), (FakeSubscriber(3), "user/alice"), (FakeSubscriber(3), "user/None")):
        with pytest.raises(RpcError, match="Permission denied"):
            subscribe(hub, other, name)
    hub.on_closed(1)
    hub.publish("user/alice", {"text": "you were away"})
    settle(hub)
    again = FakeSubscriber(4, user="alice")
    reply = subscribe(hub, again, "user/alice", since=Position(position["epoch"], position["seq"]))
    settle(hub)
    assert reply["recovered"] is True
    assert [params["result"] for params in again.received] == [{"text": "you were away"}]
    for name in ("carol", "dave", "erin"):
        hub.publish(f"user/{name}", 1)
    assert len(hub._user_topics) == 2
    assert "user/alice" in hub._user_topics, "she is listening"


def test_losing_a_permission_ends_just_those_subscriptions() -> None:
    hub, client = make(), FakeSubscriber(1)
    subscribe(hub, client)
    subscribe(hub, client, "blocks")
    add_topic(hub, "secret", permission="READ_WALLET", filters={})
    subscribe(hub, client, "secret")
    client.session.rights = ROLES["readonly"] & ~Permission.READ_WALLET
    hub.recheck_rights(client.session)
    settle(hub)
    assert [(params["topic"], params["error"]["code"]) for params in client.received] == [("secret", -32003)]
    assert [cursor.topic.name for cursor in hub.cursors.of(1)] == ["t", "blocks"]


def test_a_client_that_is_behind_gets_the_end_when_it_reads_again() -> None:
    hub, client = make(), FakeSubscriber(1, room=1)
    subscribe(hub, client)
    for _ in range(20):
        hub.publish("t", {"kind": "a"})
        settle(hub)
    assert [params["seq"] for params in client.received] == [1]
    assert hub.cursors.of(1)[0].state is CursorState.BLOCKED
    client.left = 1000
    hub.on_writable(1)
    settle(hub)
    error = client.received[1]["error"]
    assert error["data"] == {"epoch": hub.topic("t").log.position.epoch, "seq": 1, "reason": "expired"}
    assert hub.cursors.of(1) == []
    assert subscribe(hub, client)["seq"] == 20


def test_an_entry_that_expired_unread_might_have_matched() -> None:
    """Its subscribers receive an error, with a filter or without."""
    clock = Clock()
    hub, client = make(clock), FakeSubscriber(1)
    subscribe(hub, client, filter={"kind": "a"})
    hub.publish("t", {"kind": "b"})
    clock.now += 200.0
    hub.publish("t", {"kind": "b"})
    settle(hub)
    assert [params["error"]["data"]["reason"] for params in client.received] == ["expired"]


# What a review found


def test_an_event_that_others_could_not_read_is_refused_and_poisons_nothing() -> None:
    hub, client = make(), FakeSubscriber(1)
    subscribe(hub, client, filter={"kind": "a"})
    for value in (Decimal("1E+400"), Decimal("NaN"), msgspec.Raw(b"{"), Decimal("Infinity")):
        with pytest.raises(EventError):
            hub.publish("t", {"kind": "a", "value": value})
    hub.append(hub.topic("t"), b"{not JSON")  # from a store that others write to
    hub.append(hub.topic("t"), b'{"kind":"a"}')
    settle(hub)
    assert [params["seq"] for params in client.received] == [2]


def test_a_part_of_a_step_that_fails_keeps_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, client = make(), FakeSubscriber(1)
    add_topic(hub, "broken")
    subscribe(hub, client)
    broken = hub.topic("broken")
    monkeypatch.setattr(broken, "take_dirty_streams", lambda shard: 1 / 0)
    hub.publish("broken", 1)
    hub.publish("t", {"kind": "a"})
    hub.shards[0]._post(lambda: [0].remove(1))
    settle(hub)
    assert [params["seq"] for params in client.received] == [1]


def test_nothing_of_a_subscription_is_sent_once_it_is_over() -> None:
    """Not even what the pump had put together before."""
    hub, client = make(), FakeSubscriber(1)
    subscribe(hub, client)
    settle(hub)
    hub.publish("t", {"kind": "a"})
    original = client.try_send

    def try_send(data: bytes, recipient: Any) -> OfferResult:
        assert hub.unsubscribe(1, "t")
        return original(data, recipient)

    client.try_send = try_send  # type: ignore[method-assign]
    settle(hub)
    assert client.received == []


def test_a_busy_subscription_does_not_starve_others_of_the_same_slow_client() -> None:
    hub, client = make(), FakeSubscriber(1, room=1)
    add_topic(hub, "busy", mode="latest", filters={})
    subscribe(hub, client, "busy")
    subscribe(hub, client)
    settle(hub)
    hub.publish("busy", 0)
    hub.publish("t", {"kind": "a"})
    for number in range(1, 6):
        settle(hub)
        hub.publish("busy", number)
        client.left = 1
        hub.on_writable(1)
    settle(hub)
    assert "t" in [params["topic"] for params in client.received]


def test_the_newest_match_is_not_lost_silently_by_latest() -> None:
    hub, client = make(), FakeSubscriber(1)
    subscribe(hub, client, filter={"kind": "a"}, mode="latest")
    settle(hub)
    hub.publish("t", {"kind": "a"})
    for _ in range(20):
        hub.publish("t", {"kind": "b"})
    settle(hub)
    assert [params["error"]["data"]["reason"] for params in client.received] == ["expired"]


def test_a_right_that_goes_while_subscribing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub, client = make(), FakeSubscriber(1)
    add = hub.cursors.add

    def lose_rights_and_add(cursor: Any) -> None:
        client.session.rights = 0
        add(cursor)

    monkeypatch.setattr(hub.cursors, "add", lose_rights_and_add)
    with pytest.raises(RpcError, match="Permission denied"):
        subscribe(hub, client)
    assert hub.cursors.of(1) == []
    assert not hub.topic("t").in_use


def test_a_client_that_goes_while_subscribing_leaves_nothing() -> None:
    hub, client = make(), FakeSubscriber(1)
    client.gone = True
    with pytest.raises(RpcError, match="try again"):
        subscribe(hub, client)
    assert hub.cursors.of(1) == []
    assert not hub.topic("t").in_use


def test_when_all_topics_of_users_are_in_use_there_is_still_one_more() -> None:
    hub = make(user_topics=1)
    alice = FakeSubscriber(1, user="alice")
    subscribe(hub, alice, "user/alice")
    hub.publish("user/bob", 1)
    hub.publish("user/alice", 2)
    settle(hub)
    assert [params["result"] for params in alice.received] == [2]


def test_an_evicted_topic_that_was_marked_does_not_swallow_the_mark_of_its_successor() -> None:
    hub = make(user_topics=1)
    hub.publish("user/alice", 1)
    hub.publish("user/bob", 1)
    client = FakeSubscriber(1, user="alice")
    subscribe(hub, client, "user/alice")
    hub.publish("user/alice", 2)
    settle(hub)
    assert [params["result"] for params in client.received] == [2]


def test_numbers_of_thousands_of_digits_are_nothing_to_filter_by() -> None:
    hub = make()
    with pytest.raises(RpcError, match="takes a string, a whole number"):
        subscribe(hub, FakeSubscriber(1), filter={"kind": 10**5000})
    subscribe(hub, FakeSubscriber(2), filter={"kind": 1})
    hub.append(hub.topic("t"), b'{"kind":' + b"1" * 5000 + b"}")
    settle(hub)


def test_an_end_that_cannot_be_delivered_stops_no_other_subscription() -> None:
    """A host's codec may raise on it."""

    class Speechless(LineEncoder):
        def encode(self, payload: bytes) -> bytes:
            if b'"error"' in payload:
                raise ValueError("no such word")
            return super().encode(payload)

    hub = EventHub(Limits.from_names(pumps=1), Clock())
    bad, good, other = FakeSubscriber(1), FakeSubscriber(2), FakeSubscriber(3)
    for name in ("t", "u"):
        add_topic(hub, name, filters={})
    bad.encoder = Speechless()
    subscribe(hub, bad)
    subscribe(hub, good)
    subscribe(hub, other, "u")
    settle(hub)
    bad.session.rights = 0
    hub.recheck_rights(bad.session)
    for number in (1, 2):
        hub.publish("t", number)
        hub.publish("u", number)
    settle(hub)
    assert [params["seq"] for params in good.received] == [1, 2]
    assert [params["seq"] for params in other.received] == [1, 2]
    assert not hub.cursors.of(1)


def test_an_end_that_did_not_fit_leaves_the_others_of_its_place() -> None:
    """It waits, and nothing is sent before it; in mode latest the place that had expired is readable again by then."""
    clock = Clock()
    hub = EventHub(Limits.from_names(pumps=1), clock)
    add_topic(hub, "t", retention=Retention(8, 100.0, 10_000), mode="latest", filters={})
    slow, quick = FakeSubscriber(1), FakeSubscriber(2)
    for client in (slow, quick):
        subscribe(hub, client)
    settle(hub)
    hub.publish("t", 1)
    settle(hub)
    slow.left = quick.left = 0
    hub.publish("t", 2)
    settle(hub)
    clock.now += 500.0
    assert hub.topic("t").log.first == 3
    hub.on_writable(1)  # its end does not fit either
    settle(hub)
    hub.publish("t", 3)
    slow.left = quick.left = 1_000_000
    hub.on_writable(2)
    hub.on_writable(1)
    settle(hub)
    hub.publish("t", 4)
    settle(hub)
    assert ["error" in params for params in slow.received] == [False, True]
    assert [params["seq"] for params in quick.received] == [1, 3, 4]
