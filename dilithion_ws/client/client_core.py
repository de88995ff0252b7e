"""All of a client but its I/O: calls, subscriptions, and what follows when a connection is made or lost.

`Client` runs it under a lock with a thread, `AsyncClient` in an event loop. They report what happens by the methods
`on_…`, and do what it wants: send the texts of `take_outbox`, and call `on_time` at `next_time`.

"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from enum import Enum
from typing import Any

from ..errors import CloseCode
from ..util.clock import Clock, monotonic
from .exceptions import CertificateError, ClientError, ConnectionLostError, RefusedError
from .open_calls import OutgoingCall, Reply, decode, encode
from .outgoing import Outgoing
from .places import Place
from .subscription_requests import SubscriptionRequests
from .subscription_state import SubscriptionState

__all__ = ["ClientCore", "LinkState", "notification"]

logger = logging.getLogger("dilithion_ws.client")

_FINAL_CODES = (CloseCode.NOT_AUTHENTICATED,)
_STEADY_SECONDS = 5.0
"""How long a connection must have held for the next pause to be the first one again."""


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
        self._has_lost = False
        self._outgoing = Outgoing(clock)
        self._calls = self._outgoing.calls
        self._subscriptions = SubscriptionRequests(self._outgoing)
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
        """Start a subscription. See `SubscriptionRequests.subscribe`. Raise ClientError if that is impossible."""
        self.check()
        self._subscriptions.subscribe(state, place, reply, until)

    def resume(self, state: SubscriptionState) -> None:
        """Continue a subscription that is paused, after the last event it received."""
        self._subscriptions.resume(state)

    def unsubscribe(self, state: SubscriptionState) -> None:
        """End a subscription."""
        self._subscriptions.unsubscribe(state)

    # What happens to the connection

    def on_connected(self) -> bool:
        """Handle a new connection. Return whether it is wanted, as the client may have been closed meanwhile."""
        if self.state is LinkState.OVER:
            return False
        self._become(LinkState.CONNECTED)
        if self._has_lost:
            logger.info("connected again")
        self._connected_at = self._clock()
        self._patient = True
        self._outgoing.is_connected = True
        self._subscriptions.on_connected()
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
                self._subscriptions.on_event(params, size // len(items), index < len(items) - 1)
            else:
                self._calls.answer(item)

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
        self._has_lost = True
        logger.info("%s; connecting again", lost)
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
        self._subscriptions.finish(failure, reason)

    def _forget_connection(self, reason: ClientError) -> None:
        self._subscriptions.on_connection_lost()
        self._outgoing.forget_connection(reason)

    def _become(self, state: LinkState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state

    # What is to be done

    def take_outbox(self) -> list[str]:
        """Return the texts to send over the present connection."""
        return self._outgoing.take_outbox()

    @property
    def next_time(self) -> float | None:
        """The reading of the clock at which to call `on_time`, or None."""
        return self._outgoing.next_time

    def on_time(self) -> None:
        """Do what is due."""
        self._outgoing.on_time()


def notification(method: str, params: Any) -> str:
    """Return the text of a call without an answer. Raise TypeError if JSON cannot have the params."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})
