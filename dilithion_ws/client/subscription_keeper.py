"""The subscriptions of a client, which continue over each new connection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..errors import RpcError
from ..events.log import Position
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only
from .awaited_reply import AwaitedReply, Reply
from .exceptions import ClientError, ConnectionLostError
from .places import AfterBlock, Place
from .reconnecting import ReconnectingConnection
from .subscription import RETRYABLE, QueueBounds, Subscription

__all__ = ["SubscriptionKeeper"]

logger = logging.getLogger("dilithion_ws.client")

_RETRY_SECONDS = 1.0


class SubscriptionKeeper:
    """Makes subscriptions, and makes them again. Implements `ConnectionListener`.

    Args:
        bounds: what is kept of each for its reader.
        timeout: seconds for the first reply.

    Attributes:
        link: the connection, set once before anything else.
    """

    link: ReconnectingConnection

    def __init__(self, bounds: QueueBounds, timeout: float) -> None:
        self._bounds = bounds
        self._timeout = timeout
        self._lock = threading.Lock()  # guards all below
        self._subscriptions: dict[int, Subscription] = {}
        self._by_id: dict[str, Subscription] = {}
        self._pending: set[int] = set()  # subscriptions whose reply is awaited

    @any_thread
    def subscribe(
        self, topic: str, filter: dict[str, Any] | None, place: Place | None, mode: str | None
    ) -> Subscription:
        """Make a subscription. See `Client.subscribe`."""
        subscription = Subscription(topic, filter, mode, self._bounds, self._subscribe_again, self._unsubscribe)
        deadline = Deadline(monotonic, self._timeout)
        with self._lock:
            self._subscriptions[id(subscription)] = subscription
        try:
            while True:
                waiter = AwaitedReply()
                try:
                    self._subscribe(subscription, place, waiter.reply, deadline)
                    waiter.wait(deadline, "subscribe")
                    return subscription
                except RpcError as error:
                    pause = _pause(error)
                    if error.code not in RETRYABLE or deadline.remaining() < pause:
                        raise
                    threading.Event().wait(pause)
                except ConnectionLostError:
                    if self.link.is_over or deadline.expired:
                        raise  # otherwise it was lost before the reply, and the next one will do
        except BaseException:
            subscription.finish(None)
            with self._lock:
                self._subscriptions.pop(id(subscription), None)
            raise

    def _subscribe(
        self,
        subscription: Subscription,
        since: Place | None,
        reply: Reply,
        deadline: Deadline | None,
        lost: dict[str, Any] | None = None,
    ) -> None:
        def answered(result: Any, error: BaseException | None) -> None:
            with self._lock:
                self._pending.discard(id(subscription))
            if error is None and subscription.is_closed:
                self._end(result["subscription"])  # its caller has given up
            elif error is None and (block := _where_the_chain_goes_on(subscription, result, since)) is not None:
                self._end(result["subscription"])
                try:
                    self._subscribe(subscription, block, reply, None, lost=result)
                except ClientError as failure:
                    reply(None, failure)
                return
            elif error is None:
                subscription.begin(result, since, lost)
                self._by_id[result["subscription"]] = subscription
            reply(result, error)

        with self._lock:
            if id(subscription) in self._pending:
                return  # the reading thread and a reader of events both noticed that it has to be made again
            self._pending.add(id(subscription))
        try:
            self.link.request("subscribe", subscription.params(since), answered, deadline)
        except BaseException:
            with self._lock:
                self._pending.discard(id(subscription))
            raise

    def _subscribe_again(self, subscription: Subscription) -> None:
        """Continue after the last event that was received. It does not wait for the answer."""

        def answered(result: Any, error: BaseException | None) -> None:
            # A lost connection does not end a subscription: the next connection renews all of them.
            if isinstance(error, RpcError) and subscription.ended(error.to_object()):
                self._schedule(_pause(error), lambda: self._subscribe_again(subscription))

        live = subscription.id is not None and self._by_id.get(subscription.id) is subscription
        if subscription.is_closed or live:
            return
        try:
            self._subscribe(subscription, subscription.last_received, answered, None)
        except ClientError as error:
            logger.debug("subscribing again to %s: %s", subscription.topic, error)

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.pop(id(subscription), None)
        self._stop_events(subscription, lambda: None)

    def _stop_events(self, subscription: Subscription, then: Callable[[], None]) -> None:
        """Unsubscribe at the server. Call `then` after its answer, or if there is no connection."""
        found = subscription.id
        if found is not None and self._by_id.pop(found, None) is not None:
            self._end(found, then)

    def _end(self, id: str, then: Callable[[], None] = lambda: None) -> None:
        try:
            self.link.request("unsubscribe", [id], lambda result, error: then(), None)
        except ClientError:
            then()  # without a connection there is nothing to end

    # In the reading thread

    @owner_only
    def on_open(self) -> None:
        """Renew all subscriptions over a new connection."""
        with self._lock:
            self._by_id.clear()
            subscriptions = list(self._subscriptions.values())
        for subscription in subscriptions:
            if subscription.last_received is not None and not subscription.is_paused:
                self._subscribe_again(subscription)

    @any_thread
    def on_end(self, failure: ClientError | None) -> None:
        """End all subscriptions, because no other connection will be made."""
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        for subscription in subscriptions:
            subscription.finish(failure)

    @owner_only
    def on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        """Pass an event to its subscription."""
        subscription = self._by_id.get(params.get("subscription", ""))
        error = params.get("error")
        if subscription is None:
            return  # ended a moment ago
        if error is not None:
            self._by_id.pop(params["subscription"], None)
            if subscription.ended(error):
                self._subscribe_again(subscription)
        elif not subscription.notify(params, size) and not more:
            self._stop_events(subscription, subscription.pause)


def _where_the_chain_goes_on(
    subscription: Subscription, reply: dict[str, Any], since: Place | None
) -> AfterBlock | None:
    """Return the block to continue at, if the log has dropped what comes next or is a new one, and the chain has it."""
    if reply.get("recovered") is not False or not isinstance(since, Position):
        return None
    return subscription.last_block


def _pause(error: RpcError) -> float:
    """Return the seconds after which the server advises to try again."""
    data = error.data if isinstance(error.data, dict) else {}
    wanted = data.get("retry_after_ms")
    return max(_RETRY_SECONDS, wanted / 1000) if isinstance(wanted, (int, float)) else _RETRY_SECONDS
