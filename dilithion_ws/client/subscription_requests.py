"""Requests the subscriptions of a client, over each connection again, until they are closed.

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

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ..errors import RpcError
from ..util.position import Position
from .exceptions import ClientError
from .open_calls import Answer, Reply, encode
from .outgoing import Outgoing
from .places import AfterBlock, Place
from .subscription_state import RETRYABLE, SubscriptionState

__all__ = ["SubscriptionRequests"]

_RETRY_SECONDS = 1.0
"""The pause before a refused subscription is requested again, unless the server names a longer one."""
_LONGEST_RETRY_SECONDS = 60.0


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
        self.key = encode([state.topic, _canonical(state.filter)])
        self.place = place
        self.reply: Reply | None = reply
        self.until = until
        self.is_requested = False
        self.is_stopping = False
        self.renewed_at = 0.0


class SubscriptionRequests:
    """Not thread-safe.

    Args:
        outgoing: sends what is requested, and knows whether there is a connection.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._kept: dict[SubscriptionState, _Kept] = {}
        self._by_id: dict[str, SubscriptionState] = {}
        self._ending: dict[str, list[_Kept]] = {}  # by key: those that wait until the server has ended another one

    def subscribe(self, state: SubscriptionState, place: Place | None, reply: Reply, until: float) -> None:
        """Start a subscription, and renew it over each connection until it is closed.

        Args:
            state: the subscription.
            place: where to start; None for now.
            reply: gets the answer, or why the subscription cannot be made.
            until: reading of the clock; a refusal for the moment is not the answer, if another attempt fits before that.
        """
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
        if not self._outgoing.is_connected or not is_wanted or self._is_live(state):
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
        kept.renewed_at = self._outgoing.clock()
        self._outgoing.send("subscribe", kept.state.params_since(since), answered)

    def _on_subscribed(self, kept: _Kept, since: Place | None, answer: Answer, refused: dict[str, Any] | None) -> None:
        state, reply = kept.state, answer.result
        id = reply["subscription"]
        if not isinstance(id, str):
            raise TypeError("a subscription's id is not a text")
        if state.is_closed:
            self._end(id, lambda: self._free(kept.key))
            return
        following = _next_position(reply) if isinstance(since, Position) else None
        block = _where_the_chain_goes_on(state, reply, since)
        if following is not None or block is not None:
            kept.is_requested = True
            self._end(id, lambda: self._go_on(kept, following or block, None if following else reply))
            return
        state.begin(reply, since, refused)
        self._by_id[id] = state
        if kept.reply is not None:
            first, kept.reply = kept.reply, None
            first(answer)

    def _go_on(self, kept: _Kept, place: Place | None, refused: dict[str, Any] | None) -> None:
        """Continue at another place than the one that was asked for."""
        kept.is_requested = False
        if kept.state.is_closed:
            self._free(kept.key)
        elif self._outgoing.is_connected:
            self._send_subscribe(kept, place, refused)

    def _on_refused(self, kept: _Kept, error: RpcError) -> None:
        pause = _pause_of(error)
        if kept.reply is None:
            again = kept.state.ended(error.to_object())
        else:
            again = error.code in RETRYABLE and self._outgoing.clock() + pause <= kept.until
        if again:
            self._outgoing.later(pause, lambda: self._request(kept))
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
                self._outgoing.later(_pause_of(answer.error), lambda: self._end(id, then), otherwise=then)
            else:
                then()

        assert id is not None
        self._by_id.pop(id, None)
        self._outgoing.send("unsubscribe", [id], answered)

    def _free(self, key: str) -> None:
        """Request those that waited because the server gives them the id of one that it has ended now."""
        for kept in self._ending.pop(key, ()):
            self._request(kept)

    # What happens to the connection

    def on_connected(self) -> None:
        """Renew all of them over a new connection."""
        for kept in list(self._kept.values()):
            self._request(kept)

    def on_connection_lost(self) -> None:
        """Forget what the connection had. Call it before what waits for answers hears of the loss."""
        self._by_id.clear()
        self._ending.clear()

    def finish(self, failure: ClientError | None, reason: ClientError) -> None:
        """End all of them.

        Args:
            failure: what readers get in the end; None if the client was closed.
            reason: what callers get whose subscription has not begun.
        """
        kept, self._kept = list(self._kept.values()), {}
        for one in kept:
            if one.reply is not None:
                one.reply(Answer(error=reason))
            one.state.finish(failure)

    def on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        """Pass an event to its subscription. `more` events about the same place come with it."""
        id, error = params.get("subscription"), params.get("error")
        state = self._by_id.get(id) if isinstance(id, str) else None
        if state is None:
            return  # ended a moment ago, or something of the host's
        kept = self._kept[state]
        if error is not None:
            del self._by_id[params["subscription"]]
            if (following := _next_position(error.get("data"))) is not None:
                state.go_on_at(following)
            if not state.ended(error):
                del self._kept[state]
            elif self._outgoing.clock() - kept.renewed_at >= _RETRY_SECONDS:
                self._request(kept)
            else:
                self._outgoing.later(_RETRY_SECONDS, lambda: self._request(kept))
        elif not state.notify(params, size) and not more:
            self._stop_events(kept)


def _canonical(filter: dict[str, Any] | None) -> list[Any]:
    """Return a filter as the server compares it: equal ones are one subscription."""
    found = []
    for name, wanted in sorted((filter or {}).items()):
        values = wanted if isinstance(wanted, (list, tuple, set, frozenset)) else [wanted]
        found.append([name, sorted({encode(value) for value in values})])
    return found


def _next_position(members: Any) -> Position | None:
    """Return the position at which another log continues without a loss, as an error or a reply of the server says."""
    match members:
        case {"next": {"epoch": str(epoch), "seq": int(seq)}}:
            return Position(epoch, seq)
        case _:
            return None


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
