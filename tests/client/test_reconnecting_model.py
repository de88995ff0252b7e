"""The reconnecting connection against a model, in one thread: in every order of events, each call is answered once."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dilithion_ws import RpcError
from dilithion_ws.client import CallTimeoutError, ClientError, ConnectionLostError, RefusedError
from dilithion_ws.client.client_connection import ClientConnection, ConnectionOptions
from dilithion_ws.client.reconnecting import ReconnectingConnection
from dilithion_ws.util.clock import Deadline

from ..support import Clock

FIRST, LONGEST = 0.5, 4.0
STEADY_SECONDS = 5.0
OPTIONS = ConnectionOptions("ws://127.0.0.1:1", None, None, 1.0, 1.0, 1000)


class Wire:
    """A connection that notes what is sent over it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.failure: ClientError | None = None
        self.close_code = 1006
        self.close_reason = ""
        self.is_shut = False

    def send(self, text: str, timeout: float) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(text)

    def post(self, text: str) -> None:
        self.send(text, 0.0)

    def shutdown(self) -> None:
        self.is_shut = True


class Listener:
    """Notes what is reported."""

    def __init__(self) -> None:
        self.opened = 0
        self.events: list[dict[str, Any]] = []
        self.ends: list[ClientError | None] = []

    def on_open(self) -> None:
        self.opened += 1

    def on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        self.events.append(params)

    def on_end(self, failure: ClientError | None) -> None:
        self.ends.append(failure)


class Outcome:
    """What a call was answered with; fails if that happens twice."""

    def __init__(self) -> None:
        self.found: tuple[Any, BaseException | None] | None = None

    def reply(self, result: Any, error: BaseException | None) -> None:
        assert self.found is None, "a call was answered twice"
        self.found = (result, error)


class ReconnectingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.listener = Listener()
        self.link = ReconnectingConnection(OPTIONS, (FIRST, LONGEST), self.listener, self.clock)
        self.wire: Wire | None = None
        self.open_calls: dict[int, Outcome] = {}
        self.pause = FIRST
        self.opened = 0
        self.connected_at = 0.0
        self.events = 0
        self.is_closed = False
        self.failure: ClientError | None = None
        self.has_ended = False

    def check_pause(self, pause: float | None) -> None:
        if self.is_closed:
            self.has_ended = True
        assert (pause is None) == self.has_ended
        if pause is not None:
            assert self.pause / 2 <= pause <= self.pause
            self.pause = min(LONGEST, self.pause * 2)

    @precondition(lambda self: self.wire is None and not self.has_ended)
    @rule()
    def connects(self) -> None:
        self.wire = Wire()
        self.link.on_connected(cast(ClientConnection, self.wire))
        self.opened += 1
        self.connected_at = self.clock.now
        assert self.wire.is_shut == self.is_closed

    @precondition(lambda self: self.wire is None and not self.has_ended)
    @rule(error=st.sampled_from([ConnectionLostError("refused"), RefusedError(401, "no"), OSError("strange")]))
    def does_not_connect(self, error: Exception) -> None:
        is_final = not isinstance(error, ConnectionLostError)
        if is_final:
            self.has_ended = True
            self.failure = error if isinstance(error, ClientError) else ConnectionLostError("strange")
        self.check_pause(self.link.on_connect_failed(error))

    @precondition(lambda self: self.wire is not None)
    @rule(code=st.sampled_from([1000, 1001, 1006, 4401]))
    def is_lost(self, code: int) -> None:
        assert self.wire is not None
        self.wire.close_code = code
        if code == 4401:
            self.has_ended = True
            self.failure = RefusedError(4401, "")
        if self.clock.now - self.connected_at >= STEADY_SECONDS:
            self.pause = FIRST
        pause = self.link.on_connection_lost(cast(ClientConnection, self.wire))
        self.wire = None
        self.check_pause(pause)
        for outcome in self.open_calls.values():
            assert outcome.found is not None
            assert isinstance(outcome.found[1], ConnectionLostError)
        self.open_calls.clear()

    @rule(waits=st.booleans(), fails=st.sampled_from([None, ConnectionLostError("lost"), CallTimeoutError("full")]))
    def request(self, waits: bool, fails: ClientError | None) -> None:
        outcome = Outcome()
        deadline = Deadline(self.clock, 0.0) if waits else None
        if self.wire is None:
            with pytest.raises(ClientError):
                self.link.request("m", [], outcome.reply, deadline)
            return
        self.wire.failure = fails
        if fails is None:
            id = self.link.request("m", [], outcome.reply, deadline)
            assert json.loads(self.wire.sent[-1])["id"] == id
            self.open_calls[id] = outcome
        else:
            with pytest.raises(type(fails)):
                self.link.request("m", [], outcome.reply, deadline)
            assert outcome.found is None

    @precondition(lambda self: self.wire is not None and self.open_calls)
    @rule(at=st.integers(0, 9), fails=st.booleans(), repeats=st.integers(1, 2))
    def answer(self, at: int, fails: bool, repeats: int) -> None:
        id = sorted(self.open_calls)[at % len(self.open_calls)]
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": id}
        message.update({"error": {"code": -5, "message": "no"}} if fails else {"result": id})
        for _ in range(repeats):
            self.link.on_message(json.dumps(message))
        found = self.open_calls.pop(id).found
        assert found is not None
        if fails:
            assert isinstance(found[1], RpcError)
        else:
            assert found == (id, None)

    @precondition(lambda self: self.wire is not None)
    @rule(message=st.sampled_from([b"x", "{", "1", "[1]", "null", '{"id":"a","result":1}', '{"id":null,"error":{}}']))
    def something_else_arrives(self, message: str | bytes) -> None:
        self.link.on_message(message)

    @precondition(lambda self: self.wire is not None)
    @rule()
    def event(self) -> None:
        self.link.on_message('{"method":"subscription","params":{"seq":1}}')
        self.events += 1

    @rule(seconds=st.sampled_from([0.1, STEADY_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def close(self) -> None:
        self.link.close()
        self.is_closed = True
        assert self.wire is None or self.wire.is_shut

    @invariant()
    def calls_are_open_until_they_are_answered(self) -> None:
        assert set(self.link.replies) == set(self.open_calls)
        assert all(outcome.found is None for outcome in self.open_calls.values())

    @invariant()
    def the_listener_knows_all(self) -> None:
        assert self.listener.opened == self.opened
        assert len(self.listener.events) == self.events
        assert len(self.listener.ends) == self.has_ended

    @invariant()
    def who_waits_gets_the_connection_or_the_reason(self) -> None:
        deadline = Deadline(self.clock, 0.0)
        if self.wire is not None:
            assert self.link.connected(deadline) is cast(Any, self.wire)
            return
        with pytest.raises(ClientError) as caught:
            self.link.connected(deadline)
        if self.failure is not None and not self.is_closed:
            assert type(caught.value) is type(self.failure)


TestReconnecting = ReconnectingMachine.TestCase
