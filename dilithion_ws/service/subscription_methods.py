"""The server's own methods about events: subscribe, unsubscribe, subscriptions, topics.

The reply to `subscribe` precedes the first event, although events are delivered by another thread. So the subscription
is PENDING when the handler returns, and its cursor already stands at the position in the reply: events that are published
from now on wait in the log. The handler leaves a hook, which the transport calls after it has queued the reply. Only then
does the shard begin to deliver. If another answer was sent, for example because the call timed out, or none because the
client has closed, the hook gets False and the subscription ends, since the client has never learned its id.

The methods are declared fast, so they run in the leading thread in the order of the calls: `unsubscribe` cannot overtake
the `subscribe` before it. One that begins at a block is answered later, since the host's chain has to be read first.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Annotated, Any, Literal, Protocol

import msgspec

from ..errors import JsonRpcCode, RpcError
from ..events.chain_feeds import TRANSACTIONS
from ..events.follow_task import SinceBlock
from ..events.hub import USER_PREFIX, EventHub
from ..events.stream import Mode
from ..events.subscriber import Subscriber
from ..rpc.context import CallContext
from ..rpc.method import Method, MethodOptions
from ..session import Session
from ..util.position import Position

__all__ = ["SubscriberSource", "SubscriptionMethods"]


class Since(msgspec.Struct, forbid_unknown_fields=True):
    """Where a subscription begins: after a position of the log (epoch and seq), or after a block (height, hash).

    The position in an answer has its topic as well, and may be sent back as it is.
    """

    topic: str | None = None
    epoch: str | None = None
    seq: Annotated[int, msgspec.Meta(ge=0)] | None = None
    height: Annotated[int, msgspec.Meta(ge=-1, le=1 << 40)] | None = None
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{1,128}$")] | None = None

    def position(self, topic: str) -> Position | None:
        """Return the position, or None if it is a block. Raise RpcError if it is neither or both, or of another topic."""
        if self.topic not in (None, topic):
            text = f"Invalid params: `since` is a position in the topic {self.topic!r:.66}"
            raise RpcError(JsonRpcCode.INVALID_PARAMS, text)
        by_position, by_block = (self.epoch is not None, self.seq is not None), self.height is not None
        is_hash = self.hash is None or self.hash.isalnum()  # `$` in a pattern also accepts a line feed at the end
        if by_block and is_hash and not any(by_position):
            return None
        if all(by_position) and not by_block and self.hash is None:
            assert self.epoch is not None
            assert self.seq is not None
            return Position(self.epoch, self.seq)
        text = "Invalid params: `since` takes `epoch` and `seq`, or `height` and, if it is known, `hash`"
        raise RpcError(JsonRpcCode.INVALID_PARAMS, text)


class SubscriberSource(Protocol):
    """Knows the connections. Implemented by `net.connection_registry.ConnectionRegistry`."""

    def subscriber(self, connection_id: int) -> Subscriber | None:
        """Return the way to deliver events to a connection, or None if it is closed."""


class SearchCharges(Protocol):
    """Charges clients. Implemented by `AccessControl`."""

    def charge_search(self, session: Session, events: int) -> None:
        """Charge a client for events that are searched for it."""


_GENERIC_NOTIFICATION = "dilithion_subscription"


class SubscriptionMethods:
    """What clients call.

    Args:
        hub: the events.
        connections: the connections.
        charges: charges clients for what they cause.
    """

    def __init__(self, hub: EventHub, connections: SubscriberSource, charges: SearchCharges) -> None:
        self._hub = hub
        self._connections = connections
        self._charges = charges

    def methods(self) -> dict[str, Method]:
        """Return the methods by name. They are public, since each topic has a permission of its own."""
        found = {}
        for function in (
            self.subscribe,
            self.unsubscribe,
            self.subscriptions,
            self.topics,
            self.dilithion_subscribe,
            self.dilithion_unsubscribe,
        ):
            summary = (function.__doc__ or "").partition("\n")[0]
            # Declared fast, so that they run in the order in which they were called.
            options = MethodOptions(blocking=False, summary=summary, is_public=True)
            found[function.__name__] = Method(function.__name__, function, options)
        return found

    def subscribe(
        self,
        context: CallContext,
        topic: str,
        filter: dict[str, Any] | None = None,
        since: Since | None = None,
        mode: Literal["all", "latest"] | None = None,
    ) -> dict[str, Any] | Future[dict[str, Any]]:
        """Subscribe to the events of a topic"""
        subscriber = self._subscriber(context)
        position = None if since is None else since.position(topic)
        if mode == "latest" and ((since is not None and position is None) or topic == TRANSACTIONS):
            raise RpcError(JsonRpcCode.INVALID_PARAMS, 'Invalid params: this takes the mode "all"')
        if position is not None and topic == TRANSACTIONS:
            text = "Invalid params: `since` takes a block here: `height` and, if it is known, `hash`"
            raise RpcError(JsonRpcCode.INVALID_PARAMS, text)
        cursor, reply = self._hub.subscribe(subscriber, topic, filter, position, None if mode is None else Mode(mode))
        self._charges.charge_search(context.session, cursor.searched_events)
        block = None
        if since is not None and since.height is not None:
            block = SinceBlock(since.height, since.hash)
        try:
            begun = self._hub.chains.begin(cursor, block, reply)
        except RpcError:
            self._hub.cancel(cursor)
            raise
        if begun is not None:
            context.on_answer(lambda sent: begun.start() if sent else self._hub.cancel(cursor))
            return begun.answer
        if block is not None:
            reply = {
                **reply,
                "recovered": False,
                "reason": "history",
                "detail": "this server has no history of the topic",
            }
        context.on_answer(lambda sent: (self._hub.activate if sent else self._hub.cancel)(cursor))
        return reply

    def unsubscribe(self, context: CallContext, subscription: str) -> bool:
        """End a subscription"""
        if not self._hub.unsubscribe(context.connection_id, subscription):
            raise RpcError(
                JsonRpcCode.INVALID_PARAMS, f"Invalid params: there is no subscription {subscription[:64]!r} here"
            )
        return True

    def dilithion_subscribe(
        self,
        context: CallContext,
        topic: str,
        filter: dict[str, Any] | None = None,
        mode: Literal["all", "latest"] | None = None,
    ) -> str:
        """Subscribe from now on in the form of other chains: returns the id alone, for clients of pub/sub in general

        Events are the notification `dilithion_subscription`. To resume, use `subscribe`.
        """
        if topic == TRANSACTIONS:  # its events are arrays, which no such client knows
            raise RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {topic} takes `subscribe`")
        cursor, reply = self._hub.subscribe(
            self._subscriber(context), topic, filter, None, None if mode is None else Mode(mode), _GENERIC_NOTIFICATION
        )
        context.on_answer(lambda sent: (self._hub.activate if sent else self._hub.cancel)(cursor))
        id: str = reply["subscription"]
        return id

    def dilithion_unsubscribe(self, context: CallContext, subscription: str) -> bool:
        """End a subscription that `dilithion_subscribe` has made"""
        return self.unsubscribe(context, subscription)

    def _subscriber(self, context: CallContext) -> Subscriber:
        subscriber = self._connections.subscriber(context.connection_id)
        if subscriber is None:
            raise RpcError(JsonRpcCode.SERVER_BUSY, "the connection is closing")
        return subscriber

    def subscriptions(self, context: CallContext) -> list[dict[str, Any]]:
        """List the subscriptions of this connection"""
        return [
            {
                "subscription": cursor.stream.id,
                "topic": cursor.topic.name,
                "filter": cursor.stream.filter.wanted if cursor.stream.filter is not None else None,
                "mode": cursor.stream.mode.value,
                "epoch": cursor.position.epoch,
                "seq": cursor.position.seq,
                "state": cursor.state.value,
            }
            for cursor in self._hub.cursors.of(context.connection_id)
        ]

    def topics(self, context: CallContext) -> list[dict[str, Any]]:
        """List the topics that may be subscribed to"""
        session = context.session
        found = [topic for topic in self._hub.topics() if self._hub.may_read(session, topic)]
        if session.user is not None:
            found.append(self._hub.topic(USER_PREFIX + session.user))
        return [
            {
                "topic": topic.name,
                "permission": topic.permission,
                "mode": topic.mode.value,
                "filters": list(topic.filters),
                "epoch": topic.log.position.epoch,
                "seq": topic.log.position.seq,
                "first": topic.log.first,
            }
            for topic in found
        ]
