"""All of a client but its I/O: calls, subscriptions, and what follows when a connection is made or lost.

`Client` runs it under a lock with a thread, `AsyncClient` in an event loop. They report what happens by the methods
`on_…`, and do what it wants: send the texts of `take_outbox`, and call `on_time` at `next_time`.

A subscription goes through these steps, and only a connection takes it back to the second one:

    subscribe ──▶ waits for a connection ──▶ is requested ──▶ is live ──▶ closed
                            ▲                     │             │ ▲
                            └── connection lost ──┴─────────────┤ │ the reader has read all
                                                                ▼ │
                                                               paused

The server gives equal subscriptions one id. So a subscription is requested only when the server has ended an earlier one
with the same topic and filter, and a pause begins with the answer to `unsubscribe`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any

from ..errors import CloseCode, RpcError
from ..util.clock import Clock, monotonic
from ..util.position import Position
from .exceptions import CertificateError, ClientError, ConnectionLostError, RefusedError
from .open_calls import Answer, OpenCalls, OutgoingCall, Reply, decode, encode
from .places import AfterBlock, Place
from .subscription_state import RETRYABLE, SubscriptionState

__all__ = ["ClientCore", "LinkState", "notification"]

_FINAL_CODES = (CloseCode.NOT_AUTHENTICATED, CloseCode.FORBIDDEN, CloseCode.TIMED_OUT)
_STEADY_SECONDS = 5.0
"""How long a connection must have held for the next pause to be the first one again."""
_RETRY_SECONDS = 1.0
"""The pause before a refused subscription is requested again, unless the server names a longer one."""
_LONGEST_RETRY_SECONDS = 60.0


class LinkState(Enum):
    """Whether there is a connection, and whether there can be one."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    OVER = "over"


TRANSITIONS = {
    LinkState.DISCONNECTED: {LinkState.CONNECTED, LinkState.OVER},
    LinkState.CONNECTED: {LinkState.DISCONNECTED, LinkState.OVER},
    LinkState.OVER: set(),
}


class _Timer:
    """Something to do at a reading of the clock, or something else if the connection is lost before that."""

    _numbers = itertools.count()

    def __init__(self, at: float, action: Callable[[], None], otherwise: Callable[[], None]) -> None:
        self.at = at
        self.action = action
        self.otherwise = otherwise
        self._number = next(self._numbers)

    def __lt__(self, other: _Timer) -> bool:
        return (self.at, self._number) < (other.at, other._number)


def _do_nothing() -> None:
    pass


class _Kept:
    """A subscription that is renewed over each connection.

    Attributes:
        key: equal for subscriptions that the server tells apart by nothing: it gives them the same id.
        place: where it starts, as long as it has not begun.
        reply: gets the answer to the first request; None after that.
        until: when to give up asking, if the server refuses at first.
        is_requested: whether an answer is awaited.
        is_stopping: whether the server was asked for no more, and has not answered yet.
        renewed_at: when it was last requested.
    """

    def __init__(self, state: SubscriptionState, place: Place | None, reply: Reply, until: float) -> None:
        self.state = state
        self.key = encode([state.topic, state.filter])
        self.place = place
        self.reply: Reply | None = reply
        self.until = until
        self.is_requested = False
        self.is_stopping = False
        self.renewed_at = 0.0


class ClientCore:
    """Not thread-safe, and it never waits.

    Args:
        backoff: seconds between two attempts to connect: at first and at most.
        patient: whether to go on trying until there is a first connection.
        clock: seconds that never go backwards.

    Attributes:
        state: of the connection.
        failure: why no other connection will be made, or None.
        last_error: of the last attempt to connect that failed.
    """

    def __init__(self, backoff: tuple[float, float], patient: bool = True, clock: Clock = monotonic) -> None:
        self._backoff = backoff
        self._patient = patient
        self._clock = clock
        self._next_pause = backoff[0]
        self._connected_at = 0.0
        self._calls = OpenCalls()
        self._kept: dict[SubscriptionState, _Kept] = {}
        self._by_id: dict[str, SubscriptionState] = {}
        self._ending: dict[str, list[_Kept]] = {}  # by key: those that wait until the server has ended another one
        self._outbox: list[str] = []
        self._timers: list[_Timer] = []  # a heap; of the present connection
        self.state = LinkState.DISCONNECTED
        self.failure: ClientError | None = None
        self.last_error: Exception | None = None

    # Calls

    @property
    def open_calls(self) -> int:
        """The number of answers that are awaited."""
        return len(self._calls)

    def call(self, method: str, params: Any, reply: Reply) -> OutgoingCall:
        """Return a call to send over the present connection. `reply` gets its answer, or the loss of the connection.

        Raises:
            TypeError: JSON cannot have the params.
        """
        return self._calls.open(method, params, reply)

    def batch(self, calls: Sequence[tuple[str, Any]], reply: Reply) -> OutgoingCall:
        """Return a batch of calls, at least one, to send. See `call`."""
        return self._calls.open_batch(calls, reply)

    def forget(self, call: OutgoingCall) -> None:
        """Ignore the answer to a call, if it is still to come."""
        self._calls.forget(call)

    def check(self) -> None:
        """Raise the reason if no other connection will be made."""
        if self.failure is not None:
            raise self.failure
        if self.state is LinkState.OVER:
            raise ConnectionLostError("the client is closed")

    # Subscriptions

    def subscribe(self, state: SubscriptionState, place: Place | None, reply: Reply, until: float) -> None:
        """Start a subscription, and renew it over each connection until it is closed.

        Args:
            state: the subscription.
            place: where to start; None for now.
            reply: gets the answer, or why the subscription cannot be made.
            until: reading of the clock; a refusal for the moment is not the answer, if another attempt fits before that.
        """
        self.check()
        kept = self._kept[state] = _Kept(state, place, reply, until)
        self._request(kept)

    def resume(self, state: SubscriptionState) -> None:
        """Continue a subscription that is paused, after the last event it received."""
        state.is_paused = False
        if state in self._kept:
            self._request(self._kept[state])

    def unsubscribe(self, state: SubscriptionState) -> None:
        """End a subscription."""
        kept = self._kept.pop(state, None)
        state.finish(None)
        if kept is None:
            return
        if kept.is_requested or kept.is_stopping:
            self._ending.setdefault(kept.key, [])  # until the answer; see `_on_subscribed` and `_stop_events`
        elif self._is_live(state):
            self._ending.setdefault(kept.key, [])
            self._end(state.id, lambda: self._free(kept.key))

    def _is_live(self, state: SubscriptionState) -> bool:
        return state.id is not None and self._by_id.get(state.id) is state

    def _request(self, kept: _Kept) -> None:
        """Send `subscribe`, unless it was sent over this connection, or is not to be sent now."""
        state = kept.state
        is_wanted = not (state.is_closed or state.is_paused or kept.is_stopping or kept.is_requested)
        if self.state is not LinkState.CONNECTED or not is_wanted or self._is_live(state):
            return
        if kept.key in self._ending:
            self._ending[kept.key].append(kept)
        else:
            self._send_subscribe(kept, kept.place if kept.reply is not None else state.last_received)

    def _send_subscribe(self, kept: _Kept, since: Place | None, refused: dict[str, Any] | None = None) -> None:
        """Request to continue at a place. `refused` is the reply that the log cannot do so, if the chain has to."""

        def answered(answer: Answer) -> None:
            kept.is_requested = False
            if answer.error is None:
                self._on_subscribed(kept, since, answer, refused)
                return
            if kept.state.is_closed:
                self._free(kept.key)
            elif isinstance(answer.error, RpcError):
                self._on_refused(kept, answer.error)
            # A lost connection ends no subscription: the next connection renews all of them.

        kept.is_requested = True
        kept.renewed_at = self._clock()
        self._send("subscribe", kept.state.params_since(since), answered)

    def _on_subscribed(self, kept: _Kept, since: Place | None, answer: Answer, refused: dict[str, Any] | None) -> None:
        state, reply = kept.state, answer.result
        id = reply["subscription"]
        if not isinstance(id, str):
            raise TypeError("a subscription's id is not a text")
        if state.is_closed:
            self._end(id, lambda: self._free(kept.key))
            return
        block = _where_the_chain_goes_on(state, reply, since)
        if block is not None:
            kept.is_requested = True
            self._end(id, lambda: self._go_on_in_the_chain(kept, block, reply))
            return
        state.begin(reply, since, refused)
        self._by_id[id] = state
        if kept.reply is not None:
            first, kept.reply = kept.reply, None
            first(answer)

    def _go_on_in_the_chain(self, kept: _Kept, block: AfterBlock, refused: dict[str, Any]) -> None:
        kept.is_requested = False
        if kept.state.is_closed:
            self._free(kept.key)
        elif self.state is LinkState.CONNECTED:
            self._send_subscribe(kept, block, refused)

    def _on_refused(self, kept: _Kept, error: RpcError) -> None:
        pause = _pause_of(error)
        if kept.reply is None:
            again = kept.state.ended(error.to_object())
        else:
            again = error.code in RETRYABLE and self._clock() + pause <= kept.until
        if again:
            self._later(pause, lambda: self._request(kept))
            return
        self._kept.pop(kept.state, None)
        if kept.reply is not None:
            kept.state.finish(None)
            kept.reply(Answer(error=error))

    def _stop_events(self, kept: _Kept) -> None:
        """Have the server send no more. The pause begins with its answer, so that the next request finds no other."""
        state = kept.state

        def ended() -> None:
            kept.is_stopping = False
            if state.is_closed:
                self._free(kept.key)
            else:
                state.pause()

        kept.is_stopping = True
        self._end(state.id, ended)

    def _end(self, id: str | None, then: Callable[[], None]) -> None:
        """Unsubscribe. Call `then` when the server has done so, or the connection is lost."""

        def answered(answer: Answer) -> None:
            if isinstance(answer.error, RpcError) and answer.error.code in RETRYABLE:
                self._later(_pause_of(answer.error), lambda: self._end(id, then), otherwise=then)
            else:
                then()

        assert id is not None
        self._by_id.pop(id, None)
        self._send("unsubscribe", [id], answered)

    def _free(self, key: str) -> None:
        """Request those that waited because the server gives them the id of one that it has ended now."""
        for kept in self._ending.pop(key, ()):
            self._request(kept)

    def _later(self, pause: float, action: Callable[[], None], otherwise: Callable[[], None] = _do_nothing) -> None:
        heapq.heappush(self._timers, _Timer(self._clock() + pause, action, otherwise))

    def _send(self, method: str, params: Any, reply: Reply) -> None:
        self._outbox.append(self._calls.open(method, params, reply).text)

    # What happens to the connection

    def on_connected(self) -> bool:
        """Handle a new connection. Return whether it is wanted, as the client may have been closed meanwhile."""
        if self.state is LinkState.OVER:
            return False
        self._become(LinkState.CONNECTED)
        self._connected_at = self._clock()
        self._patient = True
        for kept in list(self._kept.values()):
            if not kept.state.is_paused:
                self._request(kept)
        return True

    def on_message(self, message: str | bytes) -> None:
        """Handle a message: answers, and events. Everything else is ignored.

        Raises:
            ConnectionLostError: the server does not speak as a server of this kind. The connection is of no more use.
        """
        try:
            self._on_items(decode(message), len(message))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ConnectionLostError(f"the server's message can't be understood: {error!r}") from error

    def _on_items(self, items: list[Any], size: int) -> None:
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                continue
            params = item.get("params")
            if item.get("method") == "subscription" and isinstance(params, dict):
                self._on_event(params, size // len(items), index < len(items) - 1)
            else:
                self._calls.answer(item)

    def _on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        """Pass an event to its subscription. `more` events about the same place come with it."""
        id, error = params.get("subscription"), params.get("error")
        state = self._by_id.get(id) if isinstance(id, str) else None
        if state is None:
            return  # ended a moment ago, or something of the host's
        kept = self._kept[state]
        if error is not None:
            del self._by_id[params["subscription"]]
            if not state.ended(error):
                del self._kept[state]
            elif self._clock() - kept.renewed_at >= _RETRY_SECONDS:
                self._request(kept)
            else:
                self._later(_RETRY_SECONDS, lambda: self._request(kept))
        elif not state.notify(params, size) and not more:
            self._stop_events(kept)

    def on_connection_lost(self, code: int, reason: str) -> float | None:
        """Report the loss to the calls that wait for an answer.

        Returns:
            Seconds until the next attempt to connect, or None if there is none: the client is closed, or the server has
            closed for good.
        """
        lost = ConnectionLostError(f"the connection was lost: {code} {reason}".rstrip())
        if self.state is LinkState.OVER:
            self._calls.lose_all(lost)
            return None
        self._become(LinkState.DISCONNECTED)
        if self._clock() - self._connected_at >= _STEADY_SECONDS:
            self._next_pause = self._backoff[0]
        self._forget_connection(lost)
        if code in _FINAL_CODES:
            self._give_up(RefusedError(code, reason))
            return None
        return self._pause()

    def on_connect_failed(self, error: Exception) -> float | None:
        """Decide what follows an attempt that has failed. Return seconds until the next one, or None if there is none."""
        if self.state is LinkState.OVER:
            return None
        if not isinstance(error, ClientError):
            self._give_up(ConnectionLostError(f"can't connect: {error!r}"))
            return None
        if isinstance(error, (RefusedError, CertificateError)) or not self._patient:
            self._give_up(error)
            return None
        self.last_error = error
        return self._pause()

    def close(self) -> None:
        """Make no other connection, and end everything."""
        if self.state is not LinkState.OVER:
            self._give_up(None)

    def _pause(self) -> float:
        """Return the pause before the next attempt, at random from its second half. The next pause is twice as long."""
        pause = self._next_pause * random.uniform(0.5, 1.0)
        self._next_pause = min(self._backoff[1], self._next_pause * 2)
        return pause

    def _give_up(self, failure: ClientError | None) -> None:
        self._become(LinkState.OVER)
        self.failure = failure
        reason = failure or ConnectionLostError("the client is closed")
        self._forget_connection(reason)
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            if one.reply is not None:
                one.reply(Answer(error=reason))
            one.state.finish(failure)

    def _forget_connection(self, reason: ClientError) -> None:
        """End what belongs to a connection. What waits for answers gets the reason."""
        self._by_id.clear()
        self._ending.clear()
        timers, self._timers = self._timers, []
        self._calls.lose_all(reason)
        for timer in timers:
            timer.otherwise()
        self._outbox.clear()

    def _become(self, state: LinkState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state

    # What is to be done

    def take_outbox(self) -> list[str]:
        """Return the texts to send over the present connection."""
        found, self._outbox = self._outbox, []
        return found

    @property
    def next_time(self) -> float | None:
        """The reading of the clock at which to call `on_time`, or None."""
        return self._timers[0].at if self._timers else None

    def on_time(self) -> None:
        """Do what is due."""
        while self._timers and self._timers[0].at <= self._clock():
            heapq.heappop(self._timers).action()


def notification(method: str, params: Any) -> str:
    """Return the text of a call without an answer. Raise TypeError if JSON cannot have the params."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def _where_the_chain_goes_on(state: SubscriptionState, reply: dict[str, Any], since: Place | None) -> AfterBlock | None:
    """Return the block to continue at, if the log has dropped what comes next or is a new one, and the chain has it."""
    if reply.get("recovered") is not False or not isinstance(since, Position):
        return None
    return state.last_block


def _pause_of(error: RpcError) -> float:
    """Return the seconds after which the server advises to try again."""
    data = error.data if isinstance(error.data, dict) else {}
    wanted = data.get("retry_after_ms")
    seconds = float(wanted) / 1000 if isinstance(wanted, (int, Decimal)) else 0.0
    return min(max(_RETRY_SECONDS, seconds), _LONGEST_RETRY_SECONDS)
