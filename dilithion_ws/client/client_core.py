"""All of a client but its I/O: calls, subscriptions, and what follows when a connection is made or lost.

`Client` runs it under a lock with a thread, `AsyncClient` in an event loop. They report what happens by the methods
`on_…`, and do what it wants: send the texts of `take_outbox`, and call it again after the pauses of `take_timers`.

A subscription goes through these steps, and only a connection takes it back to the second one:

    subscribe ──▶ waits for a connection ──▶ is requested ──▶ is live ──▶ closed
                            ▲                     │             │ ▲
                            └── connection lost ──┴─────────────┤ │ the reader has read all
                                                                ▼ │
                                                               paused
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from ..errors import CloseCode, RpcError
from ..util.clock import Clock, monotonic
from ..util.position import Position
from .exceptions import CertificateError, ClientError, ConnectionLostError, RefusedError
from .open_calls import Answer, OpenCalls, OutgoingCall, Reply, decode, encode
from .places import AfterBlock, Place
from .subscription_state import RETRYABLE, SubscriptionState

__all__ = ["ClientCore", "LinkState", "Timer", "notification"]

logger = logging.getLogger("dilithion_ws.client")

_FINAL_CODES = (CloseCode.NOT_AUTHENTICATED, CloseCode.FORBIDDEN, CloseCode.TIMED_OUT)
_STEADY_SECONDS = 5.0
"""How long a connection must have held for the next pause to be the first one again."""
_RETRY_SECONDS = 1.0
"""The pause before a refused subscription is requested again, unless the server names a longer one."""


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


class Timer(NamedTuple):
    """Something to do after a pause in seconds."""

    seconds: float
    action: Callable[[], None]


class _Kept:
    """A subscription that is renewed over each connection.

    Attributes:
        place: where it starts, as long as it has not begun.
        reply: gets the answer to the first request; None after that.
        until: when to give up asking, if the server refuses at first.
        is_requested: whether an answer is awaited.
    """

    def __init__(self, state: SubscriptionState, place: Place | None, reply: Reply, until: float) -> None:
        self.state = state
        self.place = place
        self.reply: Reply | None = reply
        self.until = until
        self.is_requested = False


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
        self._outbox: list[str] = []
        self._timers: list[Timer] = []
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
        self._kept.pop(state, None)
        state.finish(None)
        if state.id is not None and self._by_id.get(state.id) is state:
            self._end(state.id)

    def _request(self, kept: _Kept) -> None:
        """Send `subscribe`, unless it was sent over this connection."""
        state = kept.state
        is_live = state.id is not None and self._by_id.get(state.id) is state
        if self.state is LinkState.CONNECTED and not kept.is_requested and not state.is_closed and not is_live:
            self._send_subscribe(kept, kept.place if kept.reply is not None else state.last_received)

    def _send_subscribe(self, kept: _Kept, since: Place | None, refused: dict[str, Any] | None = None) -> None:
        """Request to continue at a place. `refused` is the reply that the log cannot do so, if the chain has to."""

        def answered(answer: Answer) -> None:
            kept.is_requested = False
            if answer.error is None:
                self._on_subscribed(kept, since, answer, refused)
            elif isinstance(answer.error, RpcError):
                self._on_refused(kept, answer.error)
            # A lost connection ends no subscription: the next connection renews all of them.

        kept.is_requested = True
        self._send("subscribe", kept.state.params_since(since), answered)

    def _on_subscribed(self, kept: _Kept, since: Place | None, answer: Answer, refused: dict[str, Any] | None) -> None:
        state, reply = kept.state, answer.result
        block = _where_the_chain_goes_on(state, reply, since)
        if state.is_closed or block is not None:
            self._end(reply["subscription"])
        if state.is_closed:
            return
        if block is not None:
            self._send_subscribe(kept, block, reply)
            return
        state.begin(reply, since, refused)
        self._by_id[reply["subscription"]] = state
        if kept.reply is not None:
            first, kept.reply = kept.reply, None
            first(answer)

    def _on_refused(self, kept: _Kept, error: RpcError) -> None:
        pause = _pause_of(error)
        if kept.reply is None:
            again = kept.state.ended(error.to_object())
        else:
            again = error.code in RETRYABLE and self._clock() + pause <= kept.until
        if again:
            self._timers.append(Timer(pause, lambda: self._request(kept)))
            return
        self._kept.pop(kept.state, None)
        if kept.reply is not None:
            kept.state.finish(None)
            kept.reply(Answer(error=error))

    def _stop_events(self, state: SubscriptionState) -> None:
        """Have the server send no more. The pause begins with its answer, so that the next request finds no other."""
        if state.id is not None and self._by_id.pop(state.id, None) is not None:
            self._send("unsubscribe", [state.id], lambda answer: state.pause())

    def _end(self, id: str) -> None:
        self._by_id.pop(id, None)
        self._send("unsubscribe", [id], lambda answer: None)

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
        """Handle a message: answers, and events. Everything else is ignored."""
        items = decode(message)
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                continue
            params = item.get("params")
            if item.get("method") == "subscription" and isinstance(params, dict):
                self._on_event(params, len(message) // len(items), index < len(items) - 1)
            else:
                self._calls.answer(item)

    def _on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        """Pass an event to its subscription. `more` events about the same place come with it."""
        state = self._by_id.get(params.get("subscription", ""))
        error = params.get("error")
        if state is None:
            return  # ended a moment ago
        if error is not None:
            self._by_id.pop(params["subscription"], None)
            if state.ended(error):
                self._request(self._kept[state])
            else:
                self._kept.pop(state, None)
        elif not state.notify(params, size) and not more:
            self._stop_events(state)

    def on_connection_lost(self, code: int, reason: str) -> float | None:
        """Report the loss to the calls that wait for an answer.

        Returns:
            Seconds until the next attempt to connect, or None if there is none: the client is closed, or the server has
            closed for good.
        """
        if self.state is LinkState.OVER:
            return None
        self._become(LinkState.DISCONNECTED)
        if self._clock() - self._connected_at >= _STEADY_SECONDS:
            self._next_pause = self._backoff[0]
        self._by_id.clear()
        self._calls.lose_all(ConnectionLostError(f"the connection was lost: {code} {reason}".rstrip()))
        self._outbox.clear()
        if code in _FINAL_CODES:
            self._give_up(RefusedError(code, reason))
            return None
        return self._pause()

    def on_connect_failed(self, error: Exception) -> float | None:
        """Decide what follows an attempt that has failed. Return seconds until the next one, or None if there is none."""
        if self.state is LinkState.OVER:
            return None
        if not isinstance(error, ClientError):
            logger.error("connecting failed", exc_info=error)
            self._give_up(ConnectionLostError(f"can't connect: {error}"))
            return None
        if isinstance(error, (RefusedError, CertificateError)) or not self._patient:
            self._give_up(error)
            return None
        logger.debug("connecting failed: %s", error)
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
        self._by_id.clear()
        self._calls.lose_all(reason)
        self._outbox.clear()
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            if one.reply is not None:
                one.reply(Answer(error=reason))
            one.state.finish(failure)

    def _become(self, state: LinkState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state

    # What is to be done

    def take_outbox(self) -> list[str]:
        """Return the texts to send over the present connection."""
        found, self._outbox = self._outbox, []
        return found

    def take_timers(self) -> list[Timer]:
        """Return what to do later."""
        found, self._timers = self._timers, []
        return found


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
    return max(_RETRY_SECONDS, wanted / 1000) if isinstance(wanted, (int, float)) else _RETRY_SECONDS
