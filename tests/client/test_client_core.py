"""The core of the clients against a model, in one thread: in every order of events, each call is answered once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dilithion_ws import RpcError
from dilithion_ws.client import ClientError, ConnectionLostError, EventsLostError, Position, RefusedError
from dilithion_ws.client.client_core import TRANSITIONS, ClientCore, LinkState
from dilithion_ws.client.open_calls import Answer
from dilithion_ws.client.subscription_state import Event, QueueBounds, SubscriptionState

from ..support import Clock

FIRST, LONGEST = 0.5, 4.0
STEADY_SECONDS = 5.0


class Outcome:
    """What a call was answered with; fails if that happens twice."""

    def __init__(self) -> None:
        self.found: Answer | None = None

    def reply(self, answer: Answer) -> None:
        assert self.found is None, "a call was answered twice"
        self.found = answer


class Topic:
    """The server's log of a topic, whose events are their own numbers."""

    def __init__(self) -> None:
        self.epoch, self.head, self.oldest = 0, 0, 0

    def reply(self, since: dict[str, Any] | None) -> dict[str, Any]:
        reply = {"subscription": "t", "topic": "t", "epoch": str(self.epoch), "seq": self.head}
        if since is not None:
            recovered = since["epoch"] == str(self.epoch) and since["seq"] >= self.oldest
            reply.update({"recovered": recovered} if recovered else {"recovered": False, "reason": "expired"})
        return reply

    def event(self, seq: int) -> str:
        params = {"subscription": "t", "epoch": str(self.epoch), "seq": seq, "prev": seq - 1, "result": seq}
        return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params})


def next_of(subscription: SubscriptionState) -> Event | ClientError | None:
    try:
        return subscription.take()
    except ClientError as error:
        return error


class ClientCoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.core = ClientCore((FIRST, LONGEST), clock=self.clock)
        self.is_connected = False
        self.open_calls: dict[int, Outcome] = {}
        self.pause = FIRST
        self.connected_at = 0.0
        self.failure: ClientError | None = None
        self.has_ended = False
        # The server's side of one subscription
        self.topic = Topic()
        self.requests: list[dict[str, Any]] = []  # of this connection, in order
        self.sent: int | None = None  # the last event that was sent over this connection; None if not subscribed
        # The reader's side
        self.subscription: SubscriptionState | None = None
        self.subscribed = Outcome()
        self.expected: Position | None = None

    def check_pause(self, pause: float | None) -> None:
        assert (pause is None) == self.has_ended
        if pause is not None:
            assert self.pause / 2 <= pause <= self.pause
            self.pause = min(LONGEST, self.pause * 2)

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connects(self) -> None:
        assert self.core.on_connected() != self.has_ended
        self.is_connected = not self.has_ended
        self.connected_at = self.clock.now
        self.take()

    @precondition(lambda self: not self.is_connected and not self.has_ended)
    @rule(error=st.sampled_from([ConnectionLostError("refused"), RefusedError(401, "no"), OSError("strange")]))
    def does_not_connect(self, error: Exception) -> None:
        if not isinstance(error, ConnectionLostError):
            self.has_ended = True
            self.failure = error if isinstance(error, ClientError) else ConnectionLostError("strange")
        self.check_pause(self.core.on_connect_failed(error))

    @precondition(lambda self: self.is_connected)
    @rule(code=st.sampled_from([1000, 1001, 1006, 4401]))
    def is_lost(self, code: int) -> None:
        if code == 4401:
            self.has_ended = True
            self.failure = RefusedError(4401, "")
        if self.clock.now - self.connected_at >= STEADY_SECONDS:
            self.pause = FIRST
        pause = self.core.on_connection_lost(code, "")
        self.disconnect()
        self.check_pause(pause)
        for outcome in self.open_calls.values():
            assert outcome.found is not None
            assert isinstance(outcome.found.error, ClientError)
        self.open_calls.clear()

    def disconnect(self) -> None:
        self.is_connected = False
        self.requests.clear()
        self.sent = None

    def take(self) -> None:
        """Take what the core wants to be done, as a client does after each step."""
        self.requests += [json.loads(text) for text in self.core.take_outbox()]
        assert self.is_connected or not self.requests

    @precondition(lambda self: self.is_connected)
    @rule()
    def request(self) -> None:
        outcome = Outcome()
        call = self.core.call("m", [], outcome.reply)
        self.open_calls[json.loads(call.text)["id"]] = outcome

    @precondition(lambda self: self.is_connected)
    @rule()
    def request_what_cannot_be_sent(self) -> None:
        with pytest.raises(TypeError):
            self.core.call("m", [object()], Outcome().reply)

    @precondition(lambda self: self.open_calls)
    @rule(at=st.integers(0, 9), fails=st.booleans(), repeats=st.integers(1, 2))
    def answer(self, at: int, fails: bool, repeats: int) -> None:
        id = sorted(self.open_calls)[at % len(self.open_calls)]
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id}
        message.update({"error": {"code": -5, "message": "no"}} if fails else {"result": id})
        for _ in range(repeats):
            self.core.on_message(json.dumps(message))
        found = self.open_calls.pop(id).found
        assert found is not None
        assert isinstance(found.error, RpcError) if fails else found == Answer(id)

    @precondition(lambda self: self.is_connected)
    @rule(
        message=st.sampled_from(
            [
                b"x",
                "{",
                "1",
                "[1]",
                "null",
                '{"id":"a","result":1}',
                '{"id":null,"error":{}}',
                '{"method":"subscription"}',
            ]
        )
    )
    def something_else_arrives(self, message: str | bytes) -> None:
        self.core.on_message(message)

    @rule(seconds=st.sampled_from([0.1, STEADY_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def timers_fire(self) -> None:
        if self.core.next_time is not None:
            self.clock.now = max(self.clock.now, self.core.next_time)
        self.core.on_time()
        self.take()

    @precondition(lambda self: not self.has_ended)
    @rule(unlikely=st.integers(0, 9))
    def close(self, unlikely: int) -> None:
        if unlikely:
            return
        self.core.close()
        self.has_ended = True
        self.disconnect()
        for outcome in self.open_calls.values():
            assert outcome.found is not None
        self.open_calls.clear()

    # One subscription, with a server that may refuse it, forget its log, or send more than the reader takes

    @precondition(lambda self: self.subscription is None and not self.has_ended)
    @rule()
    def subscribe(self) -> None:
        self.subscription = SubscriptionState("t", None, None, QueueBounds(3, 1 << 20))
        self.core.subscribe(self.subscription, None, self.subscribed.reply, self.clock.now + 1e9)
        self.take()

    @precondition(lambda self: self.requests)
    @rule(busy=st.booleans())
    def the_server_answers(self, busy: bool) -> None:
        request = self.requests.pop(0)
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        if request["method"] == "unsubscribe":
            self.sent, message["result"] = None, True
        elif busy:
            message["error"] = {"code": -32009, "message": "busy", "data": {"retry_after_ms": 1500}}
        else:
            assert self.sent is None, "it was subscribed already"
            message["result"] = reply = self.topic.reply(request["params"].get("since"))
            self.sent = request["params"]["since"]["seq"] if reply.get("recovered") else self.topic.head
            if self.expected is None:
                self.expected = Position(reply["epoch"], reply["seq"])
        self.core.on_message(json.dumps(message))
        self.take()

    @rule(events=st.integers(1, 5))
    def events_are_published(self, events: int) -> None:
        self.topic.head += events
        self.topic.oldest = max(self.topic.oldest, self.topic.head - 12)

    @rule()
    def events_are_sent(self) -> None:
        while self.sent is not None and self.sent < self.topic.head:
            if self.sent < self.topic.oldest:
                self.the_server_ends_it()
                return
            self.sent += 1
            self.core.on_message(self.topic.event(self.sent))
        self.take()

    @precondition(lambda self: self.is_connected and self.sent is not None)
    @rule()
    def the_server_ends_it(self) -> None:
        self.sent = None
        params = {"subscription": "t", "topic": "t", "error": {"code": -32007, "message": "lost", "data": {}}}
        self.core.on_message(json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}))
        self.take()

    @precondition(lambda self: not self.is_connected)
    @rule()
    def the_log_begins_again(self) -> None:
        self.topic.epoch, self.topic.head, self.topic.oldest = self.topic.epoch + 1, 0, 0

    @precondition(lambda self: self.subscription is not None)
    @rule()
    def read(self) -> None:
        assert self.subscription is not None
        found = next_of(self.subscription)
        if isinstance(found, EventsLostError):
            assert found.last == self.expected
            assert isinstance(found.now, Position)
            self.expected = found.now
        elif isinstance(found, Event):
            assert self.expected is not None
            assert found.data == found.seq == self.expected.seq + 1
            self.expected = found.position
        elif found is not None:
            assert self.has_ended
            assert type(found) is type(self.failure)
        elif self.subscription.is_paused and not self.has_ended:
            self.core.resume(self.subscription)
            self.take()

    @invariant()
    def calls_are_open_until_they_are_answered(self) -> None:
        assert self.core.open_calls == len(self.open_calls) + len(self.requests)
        assert all(outcome.found is None for outcome in self.open_calls.values())

    @invariant()
    def the_state_is_known(self) -> None:
        connected = LinkState.CONNECTED if self.is_connected else LinkState.DISCONNECTED
        assert self.core.state is (LinkState.OVER if self.has_ended else connected)
        if self.failure is not None:
            with pytest.raises(type(self.failure)):
                self.core.check()
        elif self.has_ended:
            with pytest.raises(ConnectionLostError, match="the client is closed"):
                self.core.check()

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.subscription is None or self.subscription.waiting <= 4  # three events, and an error

    def teardown(self) -> None:
        """Whatever happened, a reader that goes on reads up to the head, or to the end of the client."""
        if self.subscription is None:
            return
        for _ in range(300):
            if self.has_ended:
                assert self.subscription.is_closed
                return
            if not self.is_connected:
                self.connects()
            self.timers_fire()
            while self.requests:
                self.the_server_answers(busy=False)
            self.events_are_sent()
            self.read()
        assert self.expected is not None
        assert self.expected == Position(str(self.topic.epoch), self.topic.head)


TestClientCore = ClientCoreMachine.TestCase


def test_no_state_follows_the_last_one() -> None:
    assert TRANSITIONS[LinkState.OVER] == set()
    assert set(TRANSITIONS) == set(LinkState)


# What an attack found, each by the core alone


class Peer:
    """A core that is connected, and the server's side of it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.core = ClientCore((FIRST, LONGEST), clock=self.clock)
        self.core.on_connected()
        self.requests: list[dict[str, Any]] = []

    def next(self, method: str) -> dict[str, Any]:
        """Return the next request, which must be of this method."""
        self.requests += [json.loads(text) for text in self.core.take_outbox()]
        request = self.requests.pop(0)
        assert request["method"] == method
        return request

    def is_silent(self) -> bool:
        """Whether nothing was sent."""
        self.requests += [json.loads(text) for text in self.core.take_outbox()]
        return not self.requests

    def answer(self, request: dict[str, Any], **members: Any) -> None:
        self.core.on_message(json.dumps({"jsonrpc": "2.0", "id": request["id"], **members}))

    def accept(self, request: dict[str, Any], **members: Any) -> None:
        self.answer(request, result={"subscription": "t", "topic": "t", "epoch": "e", "seq": 0, **members})

    def send(self, seq: int) -> None:
        params = {"subscription": "t", "epoch": "e", "seq": seq, "prev": seq - 1, "result": seq}
        self.core.on_message(json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}))

    def end(self, code: int) -> None:
        params = {"subscription": "t", "error": {"code": code, "message": "m"}}
        self.core.on_message(json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}))

    def subscribe(self, filter: Any = None) -> tuple[SubscriptionState, Outcome]:
        state, outcome = SubscriptionState("t", filter, None, QueueBounds(2, 1 << 20)), Outcome()
        self.core.subscribe(state, None, outcome.reply, self.clock.now + 100)
        return state, outcome

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.core.on_time()

    def reconnect(self) -> None:
        self.requests.clear()
        self.core.on_connection_lost(1006, "")
        self.core.on_connected()


BUSY = {"code": -32009, "message": "busy", "data": {"retry_after_ms": 1500.5}}


def test_a_pause_begins_when_the_server_has_really_ended_the_subscription() -> None:
    peer = Peer()
    state, _ = peer.subscribe()
    peer.accept(peer.next("subscribe"))
    peer.send(1)
    peer.send(2)
    peer.answer(peer.next("unsubscribe"), error=BUSY)
    assert not state.is_paused
    peer.wait(1.4)
    assert peer.is_silent()
    peer.wait(0.2)
    peer.answer(peer.next("unsubscribe"), result=True)
    assert state.is_paused
    assert [state.take(), state.take()] != [None, None]
    peer.core.resume(state)
    assert peer.next("subscribe")["params"]["since"] == {"epoch": "e", "seq": 2}


def test_a_timer_of_an_earlier_connection_renews_nothing() -> None:
    peer = Peer()
    state, _ = peer.subscribe()
    peer.accept(peer.next("subscribe"))
    peer.reconnect()
    peer.answer(peer.next("subscribe"), error=BUSY)
    peer.reconnect()
    peer.accept(peer.next("subscribe"), recovered=True)
    peer.send(1)
    peer.send(2)
    peer.answer(peer.next("unsubscribe"), result=True)
    peer.wait(100)
    assert peer.is_silent()
    assert state.is_paused


@pytest.mark.parametrize(("one", "other"), [({"a": 1, "b": ["x", "y"]}, {"b": ["y", "x", "y"], "a": [1]}), (None, {})])
def test_filters_are_equal_however_they_are_written(one: Any, other: Any) -> None:
    peer = Peer()
    first, _ = peer.subscribe(one)
    request = peer.next("subscribe")
    peer.core.unsubscribe(first)
    peer.subscribe(other)
    assert peer.is_silent()
    peer.accept(request)
    peer.answer(peer.next("unsubscribe"), result=True)
    peer.next("subscribe")


def test_a_log_that_continues_elsewhere_is_followed_without_a_loss() -> None:
    peer = Peer()
    state, _ = peer.subscribe()
    peer.accept(peer.next("subscribe"))
    peer.wait(5)
    peer.send(1)
    following = {"epoch": "f", "seq": 0}
    error = {"code": -32007, "message": "gone", "data": {"reason": "epoch", "next": following}}
    peer.core.on_message(json.dumps({"method": "subscription", "params": {"subscription": "t", "error": error}}))
    request = peer.next("subscribe")
    assert request["params"]["since"] == following
    elsewhere = {"epoch": "g", "seq": 0}
    peer.accept(request, epoch="f", recovered=False, reason="epoch", next=elsewhere)
    peer.answer(peer.next("unsubscribe"), result=True)
    request = peer.next("subscribe")
    assert request["params"]["since"] == elsewhere
    peer.accept(request, epoch="g", seq=1, recovered=True)
    params = {"subscription": "t", "epoch": "g", "seq": 1, "prev": 0, "result": 2}
    peer.core.on_message(json.dumps({"method": "subscription", "params": params}))
    found = [state.take(), state.take()]
    assert [event.data for event in found if event is not None] == [1, 2]
    assert state.position == Position("g", 1)


@pytest.mark.parametrize("is_answered", [True, False])
def test_an_equal_subscription_waits_until_the_server_has_ended_the_first(is_answered: bool) -> None:
    peer = Peer()
    first, _ = peer.subscribe()
    request = peer.next("subscribe")
    if is_answered:
        peer.accept(request)
    peer.core.unsubscribe(first)
    _, outcome = peer.subscribe()
    other, _ = peer.subscribe({"kind": "added"})
    if is_answered:
        ending = peer.next("unsubscribe")
        assert peer.next("subscribe")["params"]["filter"] == other.filter
    else:
        assert peer.next("subscribe")["params"]["filter"] == other.filter
        peer.accept(request)
        ending = peer.next("unsubscribe")
    assert peer.is_silent()
    peer.answer(ending, error=BUSY)
    peer.wait(2)
    peer.answer(peer.next("unsubscribe"), result=True)
    peer.accept(peer.next("subscribe"))
    assert outcome.found is not None
    assert outcome.found.error is None


def test_a_subscription_that_waited_for_another_is_requested_over_the_next_connection() -> None:
    peer = Peer()
    first, _ = peer.subscribe()
    peer.next("subscribe")
    peer.core.unsubscribe(first)
    _, outcome = peer.subscribe()
    peer.reconnect()
    peer.accept(peer.next("subscribe"))
    assert outcome.found is not None
    assert peer.is_silent()


def test_a_server_that_loses_events_again_and_again_is_asked_once_a_second() -> None:
    peer = Peer()
    state, _ = peer.subscribe()
    peer.accept(peer.next("subscribe"))
    peer.wait(5)
    for _ in range(20):
        peer.end(-32007)
        peer.wait(1)
        peer.accept(peer.next("subscribe"), recovered=False, reason="expired")
        assert peer.is_silent()
    assert state.waiting == 1, "one loss after the other is one"
    assert isinstance(next_of(state), EventsLostError)


@pytest.mark.parametrize(
    "message",
    [
        '{"id": %d, "result": {"subscription": ["t"], "epoch": "e", "seq": 0}}',
        '{"id": %d, "result": {"subscription": "t", "seq": 0}}',
        '{"id": %d, "result": null}',
    ],
)
def test_a_reply_that_makes_no_sense_ends_the_connection_and_not_the_client(message: str) -> None:
    peer = Peer()
    _, outcome = peer.subscribe()
    with pytest.raises(ConnectionLostError, match="can't be understood"):
        peer.core.on_message(message % peer.next("subscribe")["id"])
    peer.reconnect()
    peer.accept(peer.next("subscribe"))
    assert outcome.found is not None


@pytest.mark.parametrize(
    "members", [{}, {"seq": 1}, {"seq": "x", "epoch": "e", "prev": 0, "result": 1}, {"seq": 1, "result": 1}]
)
def test_an_event_that_makes_no_sense_ends_the_connection(members: dict[str, Any]) -> None:
    peer = Peer()
    peer.subscribe()
    peer.accept(peer.next("subscribe"))
    message = {"method": "subscription", "params": {"subscription": "t", **members}}
    with pytest.raises(ConnectionLostError, match="can't be understood"):
        peer.core.on_message(json.dumps(message))
    message["params"] = {"subscription": ["t"], **members}
    peer.core.on_message(json.dumps(message))  # a broadcast of the host's


def test_an_error_that_is_none_of_json_rpc_is_an_error() -> None:
    peer = Peer()
    outcome = Outcome()
    call = peer.core.call("m", [], outcome.reply)
    peer.answer(json.loads(call.text), error="boom")
    assert outcome.found is not None
    assert str(outcome.found.error) == "boom (0)"
    with pytest.raises(TypeError, match="is not a text that can be sent"):
        peer.core.call("m", ["\ud800"], outcome.reply)


def test_a_call_that_is_made_while_the_client_closes_is_answered() -> None:
    peer = Peer()
    peer.core.close()
    outcome = Outcome()
    peer.core.call("m", [], outcome.reply)
    assert peer.core.on_connection_lost(1006, "") is None
    assert outcome.found is not None
    assert isinstance(outcome.found.error, ConnectionLostError)
