"""The server's own methods about events: subscribe, unsubscribe, subscriptions, topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from ..errors import JsonRpcCode, RpcError
from ..events.hub import USER_PREFIX, EventHub
from ..events.log import Position
from ..events.subscriber import Subscriber
from ..rpc.context import CallContext
from ..rpc.method import Method

__all__ = ["SubscriptionMethods"]


class Since(msgspec.Struct):
    """Behind which place a subscription begins."""

    epoch: str
    seq: Annotated[int, msgspec.Meta(ge=0)]


class SubscriptionMethods:
    """What clients call.

    Args:
        hub: the events.
        sink: the way to a connection, None where it has gone.
    """

    def __init__(self, hub: EventHub, sink: Callable[[int], Subscriber | None]) -> None:
        self._hub = hub
        self._sink = sink

    def methods(self) -> dict[str, Method]:
        """The methods by name."""
        found = {}
        for function in (self.subscribe, self.unsubscribe, self.subscriptions, self.topics):
            summary = (function.__doc__ or "").partition("\n")[0]
            method = Method(function.__name__, function, None, False, summary)  # quick, and in order
            method.need = 0  # each topic says what it needs
            found[method.name] = method
        return found

    def subscribe(
        self,
        context: CallContext,
        topic: str,
        filter: dict[str, Any] | None = None,
        since: Since | None = None,
        mode: Literal["all", "latest"] | None = None,
    ) -> dict[str, Any]:
        """Subscribe to the events of a topic"""
        sink = self._sink(context.connection_id)
        if sink is None:
            raise RpcError(JsonRpcCode.SERVER_BUSY, "the connection is closing")
        position = None if since is None else Position(since.epoch, since.seq)
        subscription, reply = self._hub.subscribe(sink, topic, filter, position, mode)

        def answered(sent: bool) -> None:
            (self._hub.activate if sent else self._hub.cancel)(subscription)

        context.on_answer(answered)
        return reply

    def unsubscribe(self, context: CallContext, subscription: str) -> bool:
        """End a subscription"""
        if not self._hub.unsubscribe(context.connection_id, subscription):
            raise RpcError(
                JsonRpcCode.INVALID_PARAMS, f"Invalid params: there is no subscription {subscription[:64]!r} here"
            )
        return True

    def subscriptions(self, context: CallContext) -> list[dict[str, Any]]:
        """List the subscriptions of this connection"""
        return [
            {
                "subscription": one.stream.id,
                "topic": one.stream.topic.name,
                "filter": one.stream.filter.wanted if one.stream.filter is not None else None,
                "mode": one.stream.mode,
                "epoch": one.position.epoch,
                "seq": one.position.seq,
                "state": one.state.value,
            }
            for one in self._hub.of(context.connection_id)
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
                "mode": topic.mode,
                "filters": list(topic.filters),
                "epoch": topic.log.position.epoch,
                "seq": topic.log.position.seq,
                "first": topic.log.first,
            }
            for topic in found
        ]
