"""Subscriptions that begin at a block: whatever the chain, the log and the client do, the view equals the chain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dilithion_ws import ConfigError, Retention
from dilithion_ws.events.chain_history import CHUNK_BLOCKS, ChainHooks
from dilithion_ws.events.cursor import EndOfStream
from dilithion_ws.events.follow_task import SinceBlock
from dilithion_ws.events.hub import EventHub
from dilithion_ws.events.replayer import Replay

from ..support import Clock
from ..support.hub import FakeSubscriber, add_topic, make, settle

Event = dict[str, Any]


class Chain:
    """A host's chain: blocks on any branch, and what was not published of its changes yet."""

    def __init__(self, blocks: int = 1) -> None:
        self.made = 0
        self.reads = 0
        self.failing = False
        self.active: list[Event] = []
        self.known: dict[str, Event] = {}
        self.unpublished: list[Event] = []
        for _ in range(blocks):
            self.connect()

    def connect(self) -> None:
        self.made += 1
        previous = self.active[-1]["hash"] if self.active else "none"
        block: Event = {"height": len(self.active), "hash": f"b{self.made}", "previousblockhash": previous}
        block |= {"time": self.made, "tx_count": 1}
        self.known[block["hash"]] = block
        self.active.append(block)
        self.unpublished.append({**block, "kind": "connected"})

    def reorganise(self, depth: int) -> None:
        for _ in range(min(depth, len(self.active) - 1)):
            self.unpublished.append({**self.active.pop(), "kind": "disconnected"})
        for _ in range(depth + 1):
            self.connect()

    def read(self, height: int, count: int) -> list[Event]:
        self.reads += 1
        if self.failing:
            raise OSError("the node is away")
        return self.active[height : height + count]

    def find(self, hash: str) -> Mapping[str, Any] | None:
        if self.failing:
            raise OSError("the node is away")
        return self.known.get(hash)

    def publish(self, hub: EventHub, count: int = 1 << 30) -> None:
        while self.unpublished and count:
            count -= 1
            hub.publish("chain", self.unpublished.pop(0))


def point(chain: Chain) -> tuple[int, str]:
    """Return height and hash of the tip."""
    return chain.active[-1]["height"], chain.active[-1]["hash"]


class Reader:
    """A client, and the chain as it knows it."""

    def __init__(self, hub: EventHub, id: int, since: Event, filter: Event | None = None, room: int = 1 << 30) -> None:
        self.client = FakeSubscriber(id, room)
        self.tip = (since["height"], since["hash"])
        self.error: Event | None = None
        self.events: list[Event] = []
        self.looked = 0
        self.cursor, self.reply = hub.subscribe(self.client, "chain", filter)
        replay = hub.chains.begin(self.cursor, SinceBlock(*self.tip), self.reply)
        assert isinstance(replay, Replay)
        self.replay = replay
        self.started = False

    def start(self) -> None:
        """Queue the reply, as the transport does once it is there."""
        if self.replay.answer.done() and not self.started:
            self.started = True
            self.reply = self.replay.answer.result()
            self.replay.start()

    def follow(self) -> None:
        """Apply what was received: each event must fit what the client knows."""
        for params in self.client.received[self.looked :]:
            assert self.error is None
            if "error" in params:
                self.error = params["error"]
                continue
            event = params["result"]
            self.events.append(event)
            here = (event["height"], event["hash"])
            before = (event["height"] - 1, event["previousblockhash"])
            if event["kind"] == "connected":
                assert self.tip == before
                self.tip = here
            else:
                assert self.tip == here
                self.tip = before
        self.looked = len(self.client.received)


def chain_hub(chain: Chain, entries: int = 6, clock: Clock | None = None, **limits: Any) -> EventHub:
    hub = make(clock or Clock(), **limits)
    add_topic(hub, "chain", retention=Retention(entries, 1e9, 1 << 20), filters={"kind": "kind"})
    hub.chains.add_history(hub.topic("chain"), ChainHooks(chain.read, chain.find))
    return hub


def run(hub: EventHub, readers: list[Reader], steps: int = 10_000) -> None:
    """Step replayer and shards until nothing more happens."""
    feed = hub.chains.all()[0]
    for _ in range(steps):
        with feed.step_lock:
            pause = feed.step()
        for reader in readers:
            reader.start()
        settle(hub)
        if pause.maximum > 0.5 and not feed._commands:
            return
    raise AssertionError("the replayer does not come to rest")


def test_a_client_catches_up_and_goes_on_live() -> None:
    chain = Chain(1000)
    hub = chain_hub(chain)
    chain.publish(hub)
    reader = Reader(hub, 1, chain.active[10])
    run(hub, [reader])
    reader.follow()
    assert reader.reply["recovered"] is True
    assert reader.tip == point(chain)
    assert all(params["history"] and "seq" not in params for params in reader.client.received)
    chain.connect()
    chain.publish(hub)
    settle(hub)
    reader.follow()
    assert reader.tip == point(chain)
    assert reader.client.received[-1]["prev"] == reader.client.received[-1]["seq"] - 1


def test_many_who_come_back_cost_the_host_few_reads() -> None:
    chain = Chain(1000)
    hub = chain_hub(chain, chain_cache=1 << 20)
    chain.publish(hub)
    chain.reads = 0
    readers = [Reader(hub, id, chain.active[400 + id]) for id in range(500)]
    run(hub, readers)
    for reader in readers:
        reader.follow()
        assert reader.tip[0] == 999
    assert chain.reads <= 2 * 1000 // CHUNK_BLOCKS


def test_a_stale_block_is_disconnected_first() -> None:
    chain = Chain(300)
    hub = chain_hub(chain)
    stale = chain.active[-1]
    chain.reorganise(3)
    chain.publish(hub)
    reader = Reader(hub, 1, stale)
    run(hub, [reader])
    reader.follow()
    kinds = [event["kind"] for event in reader.events]
    assert kinds == ["disconnected"] * 3 + ["connected"] * 4
    assert reader.tip == point(chain)


@pytest.mark.parametrize(
    ("since", "reason", "detail"),
    [
        ({"height": 900, "hash": "unknown"}, "fork", "block unknown at height 900 is not known"),
        ({"height": 900, "hash": "b7"}, "fork", "block b7 at height 900 is not known"),
        ({"height": 5000, "hash": None}, "ahead", "no block at height 5000 yet"),
        ({"height": 10, "hash": None}, "limit", r"more than 500 blocks to replay, past the .*rpcwebsocketchainblocks"),
    ],
)
def test_a_client_that_cannot_be_served_is_told_why_and_goes_on_live(since: Event, reason: str, detail: str) -> None:
    chain = Chain(1000)
    hub = chain_hub(chain, chain_blocks=500)
    chain.publish(hub)
    reader = Reader(hub, 1, since)
    run(hub, [reader])
    assert reader.reply["recovered"] is False
    assert reader.reply["reason"] == reason
    assert re.search(detail, reader.reply["detail"])
    chain.connect()
    chain.publish(hub)
    settle(hub)
    assert [params["result"]["height"] for params in reader.client.received] == [1000]


def test_from_the_first_block() -> None:
    chain = Chain(5)
    hub = chain_hub(chain)
    reader = Reader(hub, 1, {"height": -1, "hash": None})
    run(hub, [reader])
    assert [params["result"]["height"] for params in reader.client.received] == [0, 1, 2, 3, 4]


def test_a_filter_holds_for_the_history_too() -> None:
    chain = Chain(50)
    hub = chain_hub(chain)
    stale = chain.active[-1]
    chain.reorganise(2)
    chain.publish(hub)
    reader = Reader(hub, 1, stale, {"kind": "disconnected"})
    run(hub, [reader])
    chain.reorganise(1)
    chain.publish(hub)
    settle(hub)
    assert [params["result"]["kind"] for params in reader.client.received] == ["disconnected"] * 3


def test_a_host_that_fails_before_the_reply_is_an_error() -> None:
    chain = Chain(50)
    hub = chain_hub(chain)
    chain.failing = True
    reader = Reader(hub, 1, chain.active[3])
    with hub.chains.all()[0].step_lock:
        hub.chains.all()[0].step()
    error: Any = reader.replay.answer.exception()
    assert error.code == -32009
    assert "the chain can't be read: the node is away" in error.message


def test_a_host_that_fails_later_is_asked_again() -> None:
    chain, clock = Chain(1000), Clock()
    hub = chain_hub(chain, clock=clock)
    chain.publish(hub)
    reader = Reader(hub, 1, chain.active[3])
    with hub.chains.all()[0].step_lock:
        hub.chains.all()[0].step()
    reader.start()
    chain.failing = True
    run(hub, [reader])
    assert reader.tip[0] == 3
    chain.failing = False
    clock.now += 2.0
    run(hub, [reader])
    reader.follow()
    assert reader.tip[0] == 999


def stuck_reader() -> tuple[EventHub, Reader]:
    """A client that resumes far behind and has room for its first events only."""
    chain = Chain(1000)
    hub = chain_hub(chain)
    chain.publish(hub)
    reader = Reader(hub, 1, chain.active[3], room=1000)
    run(hub, [reader])
    return hub, reader


def test_a_client_that_has_gone_leaves_nothing() -> None:
    hub, _ = stuck_reader()
    replayer: Any = hub.chains.all()[0].parts[0]
    assert replayer._full
    hub.on_closed(1)
    run(hub, [])
    assert [len(kept) for kept in (replayer._full, replayer._ready, replayer._parked)] == [0, 0, 0]


def error_behind(hub: EventHub, reader: Reader) -> Event:
    """Let a client that was stuck read on, and return the error that ends its subscription."""
    settle(hub)
    reader.client.left = 1 << 30
    hub.on_writable(1)
    run(hub, [reader])
    reader.follow()
    assert reader.error is not None
    return reader.error


def test_a_client_that_may_not_read_any_more_is_told_in_between() -> None:
    hub, reader = stuck_reader()
    reader.client.session.rights = 0
    hub.recheck_rights(reader.client.session)
    assert error_behind(hub, reader)["code"] == -32003


def test_who_is_ended_in_between_can_continue_at_the_block_that_was_reached() -> None:
    """Not at the head of the log: the blocks that were not replayed yet would be missed."""
    hub, reader = stuck_reader()
    hub.end_all(hub.topic("chain"), EndOfStream(-32009, "Server busy", {"retry_after_ms": 1000}))
    error = error_behind(hub, reader)
    last = reader.events[-1]
    assert error["data"] == {"retry_after_ms": 1000, "since": {"height": last["height"], "hash": last["hash"]}}
    assert 3 < last["height"] < 999


def test_a_client_that_does_not_read_and_unsubscribes_leaves_nothing() -> None:
    hub, _ = stuck_reader()
    replayer: Any = hub.chains.all()[0].parts[0]
    assert replayer._full
    assert hub.unsubscribe(1, "chain")
    run(hub, [])
    assert not replayer._full
    hub.on_closed(1)


def test_a_subscription_that_ends_before_its_reply_is_an_error_and_no_incident() -> None:
    chain = Chain(10)
    hub = chain_hub(chain)
    reader = Reader(hub, 1, chain.active[3])
    hub.unsubscribe(1, "chain")
    run(hub, [])
    error: Any = reader.replay.answer.exception()
    assert error.code == -32009


def test_a_chain_without_a_block_yet() -> None:
    chain = Chain(0)
    hub = chain_hub(chain)
    reader = Reader(hub, 1, {"height": -1, "hash": None})
    run(hub, [reader])
    assert reader.reply["recovered"] is True
    chain.connect()
    chain.publish(hub)
    run(hub, [reader])
    chain.connect()
    chain.publish(hub)
    run(hub, [reader])
    assert [params["result"]["height"] for params in reader.client.received] == [0, 1]


def test_before_the_first_block_a_hash_means_nothing() -> None:
    chain = Chain(3)
    hub = chain_hub(chain)
    reader = Reader(hub, 1, {"height": -1, "hash": "any"})
    run(hub, [reader])
    assert [params["result"]["height"] for params in reader.client.received] == [0, 1, 2]


def test_a_block_that_is_newer_than_what_was_read_is_not_stale() -> None:
    chain = Chain(50)
    hub = chain_hub(chain)
    chain.publish(hub)
    first = Reader(hub, 1, chain.active[10])
    run(hub, [first])
    chain.connect()  # not published yet
    second = Reader(hub, 2, chain.active[-1])
    run(hub, [second])
    chain.publish(hub)
    settle(hub)
    run(hub, [second])
    assert second.reply["recovered"] is True
    assert second.client.received == []


def test_a_deep_branch_is_left_in_pieces_and_asked_for_once() -> None:
    chain = Chain(500)
    hub = chain_hub(chain)
    stale = chain.active[-1]
    chain.reorganise(300)
    chain.publish(hub)
    asked: list[str] = []
    find = chain.find
    history: Any = hub.chains.all()[0].history
    history._hooks = history._hooks._replace(find=lambda key: asked.append(key) or find(key))
    readers = [Reader(hub, id, stale) for id in range(20)]
    run(hub, readers)
    for reader in readers:
        reader.follow()
        assert reader.tip == point(chain)
    assert len(asked) == 300


def test_large_blocks_are_sent_in_small_pieces() -> None:
    chain = Chain(300)
    for block in chain.active:
        block["note"] = "x" * 30_000
    hub = chain_hub(chain)
    reader = Reader(hub, 1, chain.active[0], room=1)
    run(hub, [reader])
    assert sum(len(str(params)) for params in reader.client.received) < 200_000


@pytest.mark.parametrize("fault", [SystemExit, KeyboardInterrupt, ValueError])
def test_what_the_host_raises_ends_no_thread(fault: type[BaseException]) -> None:
    chain = Chain(10)

    def read(height: int, count: int) -> list[Event]:
        raise fault

    chain.read = read  # type: ignore[method-assign]
    hub = chain_hub(chain)
    reader = Reader(hub, 1, {"height": 3, "hash": "b4"})
    run(hub, [])
    error: Any = reader.replay.answer.exception()
    assert error.code == -32009


def test_blocks_from_another_height_are_an_error() -> None:
    chain = Chain(10)
    chain.read = lambda height, count: chain.active[3:]  # type: ignore[method-assign]
    hub = chain_hub(chain)
    reader = Reader(hub, 1, {"height": 3, "hash": "b4"})
    run(hub, [])
    error: Any = reader.replay.answer.exception()
    assert "not those from 0" in error.message


def test_a_topic_with_a_history_is_not_replaced() -> None:
    hub = chain_hub(Chain())
    with pytest.raises(ConfigError, match="in use already"):
        add_topic(hub, "chain")


def test_what_is_not_a_block_in_the_log_ends_nothing() -> None:
    chain = Chain(10)
    hub = chain_hub(chain)
    hub.publish("chain", {"kind": "other"})
    reader = Reader(hub, 1, chain.active[3])
    run(hub, [reader])
    chain.publish(hub)
    run(hub, [reader])
    reader.follow()
    assert reader.tip == point(chain)


def test_a_topic_has_one_history() -> None:
    hub = chain_hub(Chain())
    with pytest.raises(ConfigError, match="has a history already"):
        hub.chains.add_history(hub.topic("chain"), ChainHooks(Chain().read, None))


class Replays(RuleBasedStateMachine):
    """A chain that grows and reorganises, a log that lags behind it and forgets, and clients that come from any block."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.chain = Chain(CHUNK_BLOCKS * 2 - 3)
        self.hub = chain_hub(self.chain, clock=self.clock)
        self.readers: list[Reader] = []
        self.next_id = 1

    @rule(count=st.integers(1, 8))
    def grow(self, count: int) -> None:
        for _ in range(count):
            self.chain.connect()

    @rule(depth=st.integers(1, 8))
    def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth)

    @rule(count=st.integers(1, 12))
    def publish(self, count: int) -> None:
        self.chain.publish(self.hub, count)

    @precondition(lambda self: not self.chain.unpublished)
    @rule()
    def lose_the_log(self) -> None:
        self.hub.start_new_epoch("chain")

    @rule(data=st.data(), back=st.integers(0, 150), room=st.sampled_from([1, 2000, 1 << 30]))
    def come(self, data: Any, back: int, room: int) -> None:
        stale = data.draw(st.booleans())
        blocks = list(self.chain.known.values()) if stale else self.chain.active
        self.readers.append(Reader(self.hub, self.next_id, blocks[max(0, len(blocks) - 1 - back)], room=room))
        self.next_id += 1

    @rule()
    def replay(self) -> None:
        feed = self.hub.chains.all()[0]
        with feed.step_lock:
            feed.step()
        for reader in self.readers:
            reader.start()

    @rule()
    def deliver(self) -> None:
        settle(self.hub)
        for reader in self.readers:
            reader.follow()
            reader.client.left = reader.client.room
            self.hub.on_writable(reader.client.id)

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 2.0

    @rule()
    def come_to_rest(self) -> None:
        self.chain.publish(self.hub)
        for _ in range(4):
            self.clock.now += 2.0
            for reader in self.readers:
                reader.client.left = reader.client.room = 1 << 30
                self.hub.on_writable(reader.client.id)
            run(self.hub, self.readers)
        for reader in self.readers:
            reader.follow()
            if reader.error is not None:
                assert reader.error["code"] == -32007, "only those who had joined a log that is gone"
            else:
                assert reader.reply["recovered"] is True
                assert reader.tip == point(self.chain)
        self.readers = [reader for reader in self.readers if reader.error is None]

    def teardown(self) -> None:
        self.come_to_rest()


Replays.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_replays = Replays.TestCase
