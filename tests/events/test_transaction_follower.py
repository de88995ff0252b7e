"""Subscriptions to `transactions`: whatever the chain, the mempool and the client do, the view is the truth at last."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dilithion_ws import ConfigError, Limits, RpcError
from dilithion_ws.events.block_digest import BlockDigest, BlockDigests, TransactionHooks
from dilithion_ws.events.chain_feeds import transactions_topic
from dilithion_ws.events.chain_history import ChainHooks, ChainPoint
from dilithion_ws.events.follow_task import FollowTask, SinceBlock
from dilithion_ws.events.hub import EventHub
from dilithion_ws.util.enums import OfferResult

from ..support import Clock
from ..support.hub import FakeSubscriber, settle

Event = dict[str, Any]


class Node:
    """A chain with transactions and a mempool, and what was not published of its changes yet."""

    def __init__(self, blocks: int = 30) -> None:
        self.made = 0
        self.reads = 0
        self.failing = False
        self.reorganisations = 0
        self.active: list[Event] = []
        self.known: dict[str, Event] = {}
        self.blocks: dict[str, list[Event]] = {}
        self.mempool: dict[str, Event] = {}
        self.unpublished: list[tuple[str, Event]] = []
        for _ in range(blocks):
            self.connect()

    def pay(self, txid: str, *addresses: str) -> None:
        """Add a transaction to the mempool."""
        tx = {"txid": txid, "addresses": list(addresses)}
        self.mempool[txid] = tx
        self._tell_mempool("added", **tx)

    def drop(self, txid: str, reason: str = "expired") -> None:
        """Take a transaction out of the mempool."""
        self._tell_mempool("removed", **self.mempool.pop(txid), reason=reason)

    def _tell_mempool(self, kind: str, **more: Any) -> None:
        self.unpublished.append(("mempool", {"kind": kind, "size": 1, "sequence": 1, **more}))

    def connect(self) -> Event:
        """Mine all that is in the mempool."""
        self.made += 1
        previous = self.active[-1]["hash"] if self.active else "none"
        block: Event = {"height": len(self.active), "hash": f"b{self.made}", "previousblockhash": previous}
        block |= {"time": self.made, "tx_count": 1}
        self.known[block["hash"]] = block
        self.blocks[block["hash"]] = list(self.mempool.values())
        self.active.append(block)
        self.unpublished.append(("blocks", {**block, "kind": "connected"}))
        if self.mempool:
            mined = {"kind": "mined", "height": block["height"], "hash": block["hash"], "sequence": 1}
            self.unpublished.append(("mempool", {**mined, "txids": list(self.mempool)}))
        self.mempool = {}
        return block

    def reorganise(self, depth: int) -> None:
        """Replace blocks by empty ones; their transactions return to the mempool."""
        self.reorganisations += 1
        returned: list[Event] = []
        for _ in range(min(depth, len(self.active) - 1)):
            block = self.active.pop()
            self.unpublished.append(("blocks", {**block, "kind": "disconnected"}))
            returned += self.blocks[block["hash"]]
        kept, self.mempool = self.mempool, {}
        for _ in range(depth + 1):
            self.connect()
        self.mempool = kept
        for tx in returned:
            self.pay(tx["txid"], *tx["addresses"])

    def confirmations(self, txid: str) -> tuple[int, str, int] | None:
        """Return height and hash of the block that has a transaction, and its confirmations, or None."""
        for block in self.active:
            if any(tx["txid"] == txid for tx in self.blocks[block["hash"]]):
                return block["height"], block["hash"], len(self.active) - block["height"]
        return None

    def read(self, height: int, count: int) -> list[Event]:
        self.check()
        return self.active[height : height + count]

    def find(self, hash: str) -> Event | None:
        self.check()
        return self.known.get(hash)

    def transactions(self, hash: str) -> list[Event]:
        self.check()
        self.reads += 1
        return self.blocks[hash]

    def pending(self) -> list[Event]:
        self.check()
        return list(self.mempool.values())

    def check(self) -> None:
        if self.failing:
            raise OSError("the node is away")

    def publish(self, hub: EventHub, count: int = 1 << 30) -> None:
        while self.unpublished and count:
            count -= 1
            hub.publish(*self.unpublished.pop(0))


def make(node: Node, clock: Clock | None = None, **limits: Any) -> EventHub:
    hub = EventHub(Limits.from_names(pumps=1, **limits), clock or Clock())
    hub.chains.add_history(hub.topic("blocks"), ChainHooks(node.read, node.find))
    hub.chains.add_transactions(hub.topic("mempool"), TransactionHooks(node.transactions, node.pending))
    hub.add(transactions_topic())
    node.publish(hub)
    return hub


class TickingClock(Clock):
    """A clock that goes on a little whenever it is looked at, so that steps end before their work does."""

    def __call__(self) -> float:
        self.now += 0.0004
        return super().__call__()


class WholeMessages(FakeSubscriber):
    """Keeps messages as they come: those with several events are arrays."""

    def __init__(self, id: int, room: int) -> None:
        super().__init__(id, room)
        self.messages: list[Any] = []

    def try_send(self, data: bytes, recipient: Any) -> OfferResult:
        if self.gone or recipient.ended:
            return OfferResult.CLOSED
        if self.left <= 0:
            return OfferResult.REJECTED
        self.left -= len(data)
        self.messages += [json.loads(line) for line in data.splitlines()]
        self.received = self.messages
        return OfferResult.SENT if self.left > 0 else OfferResult.BUFFERED


class Reader:
    """A client: what it knows of each transaction, and where it would resume."""

    def __init__(self, hub: EventHub, id: int, filter: Event, since: Event | None = None, room: int = 1 << 30) -> None:
        self.hub = hub
        self.client = WholeMessages(id, room)
        self.filter = filter
        self.cursor, reply = hub.subscribe(self.client, "transactions", filter)
        begun = hub.chains.begin(self.cursor, None if since is None else SinceBlock(**since), reply)
        assert isinstance(begun, FollowTask)
        self.task = begun
        self.reply: Event = {}
        self.error: Event | None = None
        self.events: list[Event] = []
        self.places: list[Any] = []  # after each event, None before the first is known
        self.ends: list[int] = []  # how many events there were after each message
        self.looked = 0

    def start(self) -> None:
        if self.task.answer.done() and not self.reply:
            self.reply = self.task.answer.result()
            self.task.start()

    def follow(self) -> list[Event]:
        """Return the new events."""
        new = []
        for message in self.client.messages[self.looked :]:
            assert self.error is None, "nothing comes after the end"
            found = message if isinstance(message, list) else [message]
            if "error" in found[0]["params"]:
                self.error = found[0]["params"]["error"]
                continue
            new += [one["params"]["result"] for one in found]
            self.places += [one["params"].get("since") for one in found]
            self.ends.append(len(self.events) + len(new))
        self.looked = len(self.client.messages)
        self.events += new
        return new


def step(hub: EventHub, readers: list[Reader]) -> float:
    """Step everything once. Return the pause."""
    (feed,) = hub.chains.all()
    with feed.step_lock:
        pause = feed.step()
    for reader in readers:
        reader.start()
    settle(hub)
    return 0.0 if feed._commands else pause.maximum


def run(hub: EventHub, *readers: Reader) -> None:
    for _ in range(10_000):
        if step(hub, list(readers)) > 0.5:
            return
    raise AssertionError("the feed does not come to rest")


def brief(events: list[Event]) -> list[Any]:
    """Return kind, id and what is special of each event."""
    return [
        (event["kind"], event["txid"], event.get("confirmations", event.get("reason", event.get("hash"))))
        for event in events
    ]


def test_a_payment_from_the_mempool_to_its_last_confirmation() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"txid": "a", "confirmations": 3})
    run(hub, reader)
    assert reader.reply["since"] == {"height": 26, "hash": "b27"}, "before the blocks whose confirmations are reported"
    node.pay("a", "X")
    node.pay("b", "X")
    for _ in range(5):
        node.connect()
        node.publish(hub)
        run(hub, reader)
    assert brief(reader.follow()) == [("seen", "a", 0), *(("confirmed", "a", count) for count in (1, 2, 3))]
    assert {event["hash"] for event in reader.events[1:]} == {"b31"}
    assert reader.places[-1] == {"height": 32, "hash": "b33"}


def test_an_address_has_all_of_its_payments() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"address": ["X", "Y"], "confirmations": 1})
    run(hub, reader)
    node.pay("a", "X", "Z")
    node.pay("b", "X", "Y")
    node.pay("c", "Z")
    node.connect()
    node.publish(hub)
    run(hub, reader)
    events = reader.follow()
    assert brief(events) == [("seen", "a", 0), ("seen", "b", 0), ("confirmed", "a", 1), ("confirmed", "b", 1)]
    assert [event["addresses"] for event in events] == [["X"], ["X", "Y"]] * 2
    assert reader.places[-2:] == [{"height": 29, "hash": "b30"}, {"height": 30, "hash": "b31"}]
    assert reader.ends == [1, 2, 4], "the events of a block are one message"


def test_what_is_there_already_is_reported_first() -> None:
    node = Node()
    node.pay("old")
    node.connect()
    node.pay("new")
    for _ in range(3):
        node.connect()
    node.pay("waits")
    hub = make(node)
    reader = Reader(hub, 1, {"txid": ["old", "new", "waits", "other"], "confirmations": 3})
    run(hub, reader)
    assert brief(reader.follow()) == [("confirmed", "new", 3), ("seen", "waits", 0)]
    again = Reader(hub, 2, reader.filter, reader.reply["since"])  # as a client that was cut before the first event
    run(hub, again)
    counts = [("old", 2), ("new", 1), ("old", 3), ("new", 2), ("new", 3)]
    assert brief(again.follow()) == [*(("confirmed", *one) for one in counts), ("seen", "waits", 0)]


def test_a_reorganisation_takes_confirmations_back() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"txid": "a", "confirmations": 2})
    run(hub, reader)
    node.pay("a")
    node.connect()
    node.connect()
    node.publish(hub)
    run(hub, reader)
    node.reorganise(2)
    node.publish(hub)
    run(hub, reader)
    node.connect()
    node.publish(hub)
    run(hub, reader)
    assert brief(reader.follow())[-3:] == [("unconfirmed", "a", "b31"), ("seen", "a", 0), ("confirmed", "a", 1)]


@pytest.mark.parametrize("reason", ["replaced", "expired", "conflict", "unknown"])
def test_a_transaction_that_leaves_the_mempool_is_dropped(reason: str) -> None:
    node = Node()
    hub = make(node)
    by_id, by_address = Reader(hub, 1, {"txid": "a"}), Reader(hub, 2, {"address": "X"})
    run(hub, by_id, by_address)
    node.pay("a", "X")
    node.drop("a", reason)
    node.publish(hub)
    run(hub, by_id, by_address)
    for reader in (by_id, by_address):
        assert brief(reader.follow()) == [("seen", "a", 0), ("dropped", "a", reason)]


def test_after_a_week_nothing_is_missing() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"txid": ["a", "b"], "confirmations": 4})
    run(hub, reader)
    node.pay("a")
    node.connect()
    node.publish(hub)
    run(hub, reader)
    reader.follow()
    place = reader.places[-1]
    hub.on_closed(1)
    for count in range(3000):
        if count == 1500:
            node.pay("b")
        node.connect()
    node.publish(hub)
    again = Reader(hub, 2, reader.filter, place)
    run(hub, again)
    assert again.reply["recovered"] is True
    expected = [("confirmed", "a", count) for count in (2, 3, 4)] + [("confirmed", "b", n) for n in (1, 2, 3, 4)]
    assert brief(again.follow()) == expected


def test_a_client_that_was_cut_between_messages_misses_and_repeats_nothing() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"address": "X", "confirmations": 2})
    run(hub, reader)
    for name in "abcd":
        node.pay(name, "X")
    node.connect()
    node.publish(hub)
    run(hub, reader)
    node.reorganise(1)
    node.publish(hub)
    run(hub, reader)
    node.connect()
    node.connect()
    node.publish(hub)
    run(hub, reader)
    reader.follow()
    for cut, end in enumerate(reader.ends[4:]):
        again = Reader(hub, 10 + cut, reader.filter, reader.places[end - 1])
        run(hub, again)
        blocks = [event for event in again.follow() if event["kind"] != "seen"]
        assert blocks == [event for event in reader.events[end:] if event["kind"] != "seen"]


def test_a_block_that_is_replaced_between_the_reply_and_the_first_event() -> None:
    node = Node()
    hub = make(node)
    node.pay("a", "X")
    node.pay("b", "X")
    stale = node.connect()
    node.publish(hub)
    reader = Reader(hub, 1, {"address": "X", "confirmations": 1}, {"height": stale["height"], "hash": stale["hash"]})
    step(hub, [reader])
    node.reorganise(1)
    node.connect()
    node.publish(hub)
    run(hub, reader)
    kinds = [event["kind"] for event in reader.follow()]
    assert kinds == ["unconfirmed", "unconfirmed", "confirmed", "confirmed"]


def test_what_waits_is_not_lost_if_the_host_fails_for_once() -> None:
    node, clock = Node(), Clock()
    node.pay("a", "X")
    hub = make(node, clock)
    good = node.pending
    node.pending = lambda: node.nosuch  # type: ignore[method-assign, attr-defined]
    hub.chains.all()[0].parts[1]._pending._list_all = node.pending  # type: ignore[attr-defined]
    reader = Reader(hub, 1, {"txid": "a"})
    run(hub, reader)
    assert reader.follow() == []
    hub.chains.all()[0].parts[1]._pending._list_all = good  # type: ignore[attr-defined]
    clock.now += 2
    run(hub, reader)
    assert brief(reader.follow()) == [("seen", "a", 0)]


def test_a_block_that_cannot_be_read_is_told_in_the_end() -> None:
    node, clock = Node(), Clock()
    hub = make(node, clock)
    live = Reader(hub, 1, {"txid": "a"})
    run(hub, live)
    bad = node.connect()
    del node.blocks[bad["hash"]]  # as a node does that has pruned it
    node.publish(hub)
    late = Reader(hub, 2, {"txid": "a"}, {"height": 29, "hash": "b30"})
    for _ in range(40):
        clock.now += 2
        run(hub, live, late)
    for reader in (live, late):
        reader.follow()
        assert reader.error is not None
        assert reader.error["data"]["reason"] == "unreadable"


def test_a_host_that_fails_for_a_moment_ends_nobody() -> None:
    node, clock = Node(), Clock()
    hub = make(node, clock)
    live = Reader(hub, 1, {"txid": "a", "confirmations": 1})
    run(hub, live)
    node.failing = True
    for _ in range(60):
        clock.now += 0.01
        node.connect()
        node.pay(f"other{node.made}")
        node.publish(hub)
        run(hub, live)
    node.failing = False
    node.pay("a")
    node.connect()
    node.publish(hub)
    clock.now += 2
    run(hub, live)
    assert brief(live.follow())[-1] == ("confirmed", "a", 1)


def test_what_happens_in_the_mempool_while_a_block_is_reported_is_not_forgotten() -> None:
    node, clock = Node(), TickingClock()
    hub = make(node, clock)
    readers = [Reader(hub, id, {"address": ["hot", "late"], "confirmations": 1}) for id in range(20)]
    run(hub, *readers)
    node.pay("a", "hot")
    node.connect()
    node.publish(hub)
    step(hub, readers)
    node.pay("b", "late")
    node.publish(hub)
    run(hub, *readers)
    for reader in readers:
        assert ("seen", "b", 0) in brief(reader.follow())


def test_what_was_missed_and_has_come_back_is_not_dropped() -> None:
    node, clock = Node(), Clock()
    hub = make(node, clock, history_entries=4, history_lag=0)
    reader = Reader(hub, 1, {"txid": ["a", "gone"]})
    run(hub, reader)
    node.pay("a")
    node.pay("gone")
    node.publish(hub)
    run(hub, reader)
    node.drop("a")
    node.drop("gone")
    for at in range(10):
        node.pay(f"other{at}")
    node.publish(hub)  # more than the log keeps
    node.pay("a")
    node.publish(hub)
    clock.now += 2
    run(hub, reader)
    clock.now += 2
    run(hub, reader)
    events = brief(reader.follow())
    assert ("dropped", "gone", "unknown") in events
    assert ("dropped", "a", "unknown") not in events


def test_a_codec_that_fails_for_one_client_ends_that_one_alone() -> None:
    node = Node()
    hub = make(node)
    readers = [Reader(hub, id, {"txid": "a", "confirmations": 1}) for id in range(5)]
    run(hub, *readers)

    class Broken:
        def encode(self, payload: bytes) -> bytes:
            raise ValueError("of the host")

    readers[2].client.encoder = Broken()
    node.pay("a")
    node.connect()
    node.publish(hub)
    run(hub, *readers)
    for id, reader in enumerate(readers):
        assert brief(reader.follow()) == ([] if id == 2 else [("seen", "a", 0), ("confirmed", "a", 1)])


def test_after_a_deep_reorganisation_old_transactions_count_again() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"txid": "a", "confirmations": 2})
    run(hub, reader)
    node.pay("a")
    node.connect()
    for _ in range(20):
        node.connect()
    node.publish(hub)
    run(hub, reader)
    node.reorganise(20)
    node.publish(hub)
    run(hub, reader)
    assert brief(reader.follow())[-1] == ("confirmed", "a", 2)
    assert reader.events[-1] == reader.events[-2], "its second confirmation is another block"


def test_a_client_with_few_subscriptions_comes_first() -> None:
    node = Node()
    hub = make(node)
    hot = WholeMessages(1, 1 << 30)
    readers = [Reader(hub, 1, {"address": ["hot", f"other{at}"]}) for at in range(20)]
    for reader in readers:
        reader.client = hot
        reader.cursor.subscriber = hot
    single = Reader(hub, 2, {"address": "hot"})
    order: list[int] = []
    for subscriber in (hot, single.client):
        original = subscriber.try_send
        subscriber.try_send = (  # type: ignore[method-assign]
            lambda data, recipient, original=original, number=subscriber.id: (
                order.append(number) or original(data, recipient)
            )
        )
    run(hub, *readers, single)
    order.clear()
    node.pay("a", "hot")
    node.connect()
    node.publish(hub)
    run(hub, *readers, single)
    assert order[len(order) // 2] == 2, "the first of those that get the block"


def test_values_are_counted_once_and_for_each_client_by_itself() -> None:
    hub = make(Node(), follows=3)
    hub.subscribe(FakeSubscriber(1), "transactions", {"txid": ["a", "a", "a", "b", "c"], "confirmations": 2})
    hub.subscribe(FakeSubscriber(2), "transactions", {"txid": "a"})
    hub.subscribe(FakeSubscriber(2), "transactions", {"txid": ["b", "c"]})
    with pytest.raises(RpcError, match="rpcwebsocketfollows"):
        hub.subscribe(FakeSubscriber(2), "transactions", {"txid": "d"})
    with pytest.raises(RpcError, match="rpcwebsocketfollows"):
        hub.subscribe(FakeSubscriber(3), "transactions", {"address": ["a", "b", "c", "d"]})


def test_thousands_of_follows_cost_what_concerns_them() -> None:
    node = Node()
    hub = make(node)
    readers = [Reader(hub, at // 1000, {"txid": f"t{at}"}) for at in range(3000)]
    run(hub, *readers)
    node.reads = 0
    node.pay("t7")
    node.pay("other")
    node.connect()
    node.publish(hub)
    run(hub, *readers)
    assert [at for at, reader in enumerate(readers) if reader.client.received] == [7]
    assert brief(readers[7].follow()) == [("seen", "t7", 0), ("confirmed", "t7", 1)]
    assert node.reads == 1


def test_follows_are_bounded() -> None:
    node = Node()
    hub = make(node, follows=5, all_follows=8, subscriptions=2)
    for client, values in ((1, ["a", "b", "c"]), (1, ["d", "e"]), (2, ["a", "b", "c"])):
        hub.subscribe(FakeSubscriber(client), "transactions", {"txid": values})
    with pytest.raises(RpcError, match=r"follows limit of 5 values \(rpcwebsocketfollows\)") as caught:
        hub.subscribe(FakeSubscriber(1), "transactions", {"txid": "f"})
    assert caught.value.code == -32006
    with pytest.raises(RpcError, match=r"all follows limit of 8 values \(rpcwebsocketallfollows\)"):
        hub.subscribe(FakeSubscriber(3), "transactions", {"txid": "f"})
    hub.subscribe(FakeSubscriber(1), "blocks")
    hub.subscribe(FakeSubscriber(1), "peers")
    with pytest.raises(RpcError, match="subscriptions limit of 2"):
        hub.subscribe(FakeSubscriber(1), "mempool")
    hub.on_closed(1)
    hub.subscribe(FakeSubscriber(3), "transactions", {"txid": ["f", "g", "h", "i", "j"]})


@pytest.mark.parametrize(
    ("filter", "text"),
    [
        (None, "takes a filter by `txid` or by `address`"),
        ({"confirmations": 2}, "takes a filter by `txid` or by `address`"),
        ({"txid": "a", "address": "b"}, "takes a filter by `txid` or by `address`"),
        ({"txid": 5}, "txid takes a string, or a list of strings"),
        ({"address": ["a", True]}, "address takes a string, or a list of strings"),
        ({"txid": "a", "confirmations": 0}, r"a number from 1 to the limit of 100 \(rpcwebsocketfollowconfirmations\)"),
        ({"txid": "a", "confirmations": 101}, "a number from 1 to"),
        ({"txid": "a", "confirmations": "3"}, "a number from 1 to"),
        ({"txid": "a", "confirmations": True}, "a number from 1 to"),
        ({"txid": "a", "confirmations": [1, 2]}, "a number from 1 to"),
    ],
)
def test_filters_that_follow_nothing(filter: Any, text: str) -> None:
    hub = make(Node())
    cursor, reply = hub.subscribe(FakeSubscriber(1), "transactions", filter)
    with pytest.raises(RpcError, match=text) as caught:
        hub.chains.begin(cursor, None, reply)
    assert caught.value.code == -32602


def test_a_client_that_does_not_read_has_its_events_later() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"address": "X", "confirmations": 1}, room=400)
    run(hub, reader)
    for at in range(20):
        node.pay(f"t{at:02}", "X")
        node.connect()
        node.publish(hub)
        run(hub, reader)
    assert len(reader.follow()) < 5
    for _ in range(40):
        reader.client.left = reader.client.room
        hub.on_writable(1)
        run(hub, reader)
    reader.follow()
    assert brief(reader.events) == [
        (kind, f"t{at:02}", number) for at in range(20) for kind, number in (("seen", 0), ("confirmed", 1))
    ]


def test_a_client_that_never_reads_is_told_so() -> None:
    node = Node()
    hub = make(node, follow_backlog=1024)
    reader = Reader(hub, 1, {"address": "X", "confirmations": 1}, room=400)
    run(hub, reader)
    for at in range(20):
        node.pay(f"t{at:02}", "X")
        node.connect()
        node.publish(hub)
        run(hub, reader)
    for _ in range(10):
        reader.client.left = 1 << 20
        hub.on_writable(1)
        run(hub, reader)
    reader.follow()
    assert reader.error is not None
    assert reader.error["data"]["reason"] == "slow"
    assert "rpcwebsocketfollowbacklog" in reader.error["message"]
    again = Reader(hub, 2, reader.filter, reader.places[-1])
    run(hub, again)
    again.follow()
    confirmed = [event["txid"] for event in reader.events + again.events if event["kind"] == "confirmed"]
    assert confirmed == [f"t{at:02}" for at in range(20)]


def test_a_client_that_may_not_read_any_more_gets_an_error() -> None:
    node = Node()
    hub = make(node)
    reader = Reader(hub, 1, {"txid": "a"})
    run(hub, reader)
    reader.client.session.rights = 0
    hub.recheck_rights(reader.client.session)
    run(hub, reader)
    reader.follow()
    assert reader.error is not None
    assert reader.error["code"] == -32003
    follower: Any = hub.chains.all()[0].parts[1]
    assert not follower._live


def test_what_has_ended_leaves_nothing() -> None:
    node = Node()
    hub = make(node)
    readers = [Reader(hub, id, {"txid": ["a", f"b{id}"]}) for id in range(10)]
    run(hub, *readers)
    node.pay("a")
    node.connect()
    node.publish(hub)
    run(hub, *readers)
    for reader in readers[:5]:
        assert hub.unsubscribe(reader.client.id, reader.cursor.stream.id)
    for reader in readers[5:]:
        hub.on_closed(reader.client.id)
    run(hub)
    follower: Any = hub.chains.all()[0].parts[1]
    for name in ("_tasks", "_live", "_backlogs", "_turns", "_parked"):
        assert not getattr(follower, name), name
    assert not follower._pending._addresses
    assert hub.cursors._all_followed == 0


def test_a_node_that_fails_is_asked_again() -> None:
    node, clock = Node(), Clock()
    hub = make(node, clock)
    reader = Reader(hub, 1, {"txid": "a", "confirmations": 1})
    run(hub, reader)
    node.failing = True
    node.pay("a")
    node.connect()
    node.publish(hub)
    run(hub, reader)
    assert brief(reader.follow()) == [("seen", "a", 0)]
    node.failing = False
    clock.now += 2
    run(hub, reader)
    assert brief(reader.follow()) == [("confirmed", "a", 1)]


def test_a_node_that_fails_before_the_reply_is_an_error() -> None:
    node = Node()
    hub = make(node)
    node.failing = True
    reader = Reader(hub, 1, {"txid": "a"})
    step(hub, [])
    error: Any = reader.task.answer.exception()
    assert error.code == -32009


def test_transactions_need_blocks() -> None:
    hub = EventHub(Limits(), Clock())
    hooks = TransactionHooks(lambda _: [], None)
    with pytest.raises(ConfigError, match=r"call history\('blocks', ...\) first"):
        hub.chains.add_transactions(hub.topic("mempool"), hooks)
    hub = make(Node())
    with pytest.raises(ConfigError, match="can be followed already"):
        hub.chains.add_transactions(hub.topic("mempool"), hooks)


def test_digests_are_kept_within_their_size() -> None:
    reads: list[str] = []

    def read(hash: str) -> list[Event]:
        reads.append(hash)
        return [{"txid": f"{hash}{at}", "addresses": ["x", "y"]} for at in range(10)]

    size = BlockDigest(read("a")).size
    history: Any = None  # only for `is_mined`
    digests = BlockDigests(TransactionHooks(read, None), history, 3 * size)
    for hash in "abcabcdab":
        digests.of(ChainPoint(ord(hash), hash))
    assert reads == list("aabcdab")


PUBLISHED = st.sampled_from([1 << 30, 1 << 30, 0, 1, 3])
STEPS = st.sampled_from([0, 1, 2, 10])


class Follows(RuleBasedStateMachine):
    """A node that lives, and clients that are cut at any event and resume."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(1)
        self.clock = Clock()
        self.node = Node(30)
        self.hub = make(self.node, self.clock)
        self.readers = [Reader(self.hub, 1, {"address": "X", "confirmations": 3})]
        self.next_id = 2
        self.names = 0
        self.go_on(0, 20)

    def go_on(self, published: int, steps: int) -> None:
        """Publish some of what has happened, and report some of that."""
        self.node.publish(self.hub, published)
        for _ in range(steps):
            step(self.hub, self.readers)
        for reader in self.readers:
            reader.follow()

    @rule(address=st.sampled_from("XY"), count=st.integers(1, 3), published=PUBLISHED, steps=STEPS)
    def pay(self, address: str, count: int, published: int, steps: int) -> None:
        for _ in range(count):
            self.names += 1
            self.node.pay(f"t{self.names:04}", address)
        self.go_on(published, steps)

    @precondition(lambda self: self.node.mempool)
    @rule(published=PUBLISHED, steps=STEPS)
    def drop(self, published: int, steps: int) -> None:
        self.node.drop(next(iter(self.node.mempool)))
        self.go_on(published, steps)

    @rule(count=st.integers(1, 4), published=PUBLISHED, steps=STEPS)
    def mine(self, count: int, published: int, steps: int) -> None:
        for _ in range(count):
            self.node.connect()
        self.go_on(published, steps)

    @rule(depth=st.integers(1, 4), published=PUBLISHED, steps=STEPS)
    def reorganise(self, depth: int, published: int, steps: int) -> None:
        self.node.reorganise(depth)
        self.go_on(published, steps)

    @rule(address=st.sampled_from("XY"), confirmations=st.integers(1, 4), room=st.sampled_from([300, 1 << 30]))
    def come(self, address: str, confirmations: int, room: int) -> None:
        wanted = {"address": address, "confirmations": confirmations}
        self.readers.append(Reader(self.hub, self.next_id, wanted, room=room))
        self.next_id += 1

    @precondition(lambda self: any(reader.ends for reader in self.readers))
    @rule(data=st.data())
    def cut(self, data: Any) -> None:
        """Cut a client after any message, as a lost connection does: messages are whole or not there."""
        reader = data.draw(st.sampled_from([reader for reader in self.readers if reader.ends]))
        kept = data.draw(st.integers(1, len(reader.ends)))
        end = reader.ends[kept - 1]
        self.hub.on_closed(reader.client.id)
        self.readers.remove(reader)
        again = Reader(self.hub, self.next_id, reader.filter, reader.places[end - 1], reader.client.room)
        self.next_id += 1
        again.events, again.places, again.ends = reader.events[:end], reader.places[:end], reader.ends[:kept]
        self.readers.append(again)

    @rule()
    def read(self) -> None:
        for reader in self.readers:
            reader.client.left = reader.client.room
            self.hub.on_writable(reader.client.id)

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 2.0

    @rule()
    def come_to_rest(self) -> None:
        self.node.publish(self.hub)
        for _ in range(4):
            self.clock.now += 2.0
            for reader in self.readers:
                reader.client.left = reader.client.room = 1 << 30
                self.hub.on_writable(reader.client.id)
            run(self.hub, *self.readers)
        for reader in self.readers:
            reader.follow()
            assert reader.error is None
            self.check(reader)

    def check(self, reader: Reader) -> None:
        """What the events say last of each transaction is what is true."""
        last: dict[str, Event] = {}
        for event in reader.events:
            before = last.get(event["txid"])
            if event["kind"] == "confirmed" and before is not None and before["kind"] == "confirmed":
                assert (event["height"], event["hash"]) == (before["height"], before["hash"]), "unconfirmed in between"
                counts_on = event["confirmations"] == before["confirmations"] + 1
                assert counts_on or self.node.reorganisations, "neither a gap nor a repeat"
            last[event["txid"]] = event
        for txid, event in last.items():
            truth = self.node.confirmations(txid)
            if truth is not None:
                height, hash, count = truth
                assert event["kind"] == "confirmed", (event, truth)
                assert (event["height"], event["hash"]) == (height, hash)
                assert event["confirmations"] == min(count, reader.filter["confirmations"])
            elif txid in self.node.mempool:
                assert event["kind"] == "seen"
            else:
                assert event["kind"] in ("dropped", "unconfirmed", "seen")
        for txid, tx in self.node.mempool.items():
            assert (reader.filter["address"] not in tx["addresses"]) or txid in last

    def teardown(self) -> None:
        self.come_to_rest()


Follows.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_follows = Follows.TestCase
