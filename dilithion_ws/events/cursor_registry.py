"""All subscriptions of a server, by client."""

from __future__ import annotations

import threading

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from ..util.thread_contracts import any_thread, requires
from .cursor import Cursor

__all__ = ["CursorRegistry"]


class CursorRegistry:
    """Knows which client has which subscriptions. Thread-safe.

    Args:
        limits: how many a client may have.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()  # guards all below
        self._cursors: dict[int, dict[str, Cursor]] = {}  # by the subscriber's id, then by the stream's
        self._followed: dict[int, int] = {}  # values that are followed, by the subscriber's id
        self._follows: dict[int, int] = {}  # subscriptions that do so, likewise
        self._all_followed = 0

    @any_thread
    def add(self, cursor: Cursor) -> None:
        """Add a subscription.

        Raises:
            RpcError: the client has it already (-32602), or has too many (-32006).
        """
        limit, subscriber, id = self._limits.events.subscriptions, cursor.subscriber.id, cursor.stream.id
        values = cursor.followed_values
        with self._lock:
            cursors = self._cursors.setdefault(cursor.subscriber.id, {})
            if id in cursors:
                raise RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: subscribed already as {id}")
            if values:
                self._follow(subscriber, values)
            elif len(cursors) - self._follows.get(subscriber, 0) >= limit:
                text = f"Too many subscriptions: past the {limit_reached(self._limits, 'subscriptions')}"
                raise RpcError(JsonRpcCode.TOO_MANY_SUBSCRIPTIONS, text, {"limit": limit})
            cursors[id] = cursor

    @requires("_lock")
    def _follow(self, subscriber_id: int, values: int) -> None:
        limits, mine = self._limits.events, self._followed.get(subscriber_id, 0) + values
        for number, limit in ((mine, "follows"), (self._all_followed + values, "all_follows")):
            if number > getattr(limits, limit):
                text = f"Too many subscriptions: past the {limit_reached(self._limits, limit)}"
                raise RpcError(JsonRpcCode.TOO_MANY_SUBSCRIPTIONS, text, {"limit": getattr(limits, limit)})
        self._followed[subscriber_id] = mine
        self._follows[subscriber_id] = self._follows.get(subscriber_id, 0) + 1
        self._all_followed += values

    @requires("_lock")
    def _unfollow(self, cursor: Cursor) -> None:
        values, id = cursor.followed_values, cursor.subscriber.id
        if values:
            self._all_followed -= values
            self._followed[id] -= values
            self._follows[id] -= 1
            if not self._follows[id]:
                del self._followed[id], self._follows[id]

    @any_thread
    def remove(self, cursor: Cursor) -> None:
        """Remove a subscription that has ended, and release its stream. Do nothing if it was removed before."""
        with self._lock:
            cursors = self._cursors.get(cursor.subscriber.id, {})
            if cursors.get(cursor.stream.id) is not cursor:
                return
            del cursors[cursor.stream.id]
            self._unfollow(cursor)
            if not cursors:
                del self._cursors[cursor.subscriber.id]
        cursor.topic.release_stream(cursor.stream)

    @any_thread
    def remove_all_of(self, subscriber_id: int) -> list[Cursor]:
        """Remove all subscriptions of a client that has disconnected, and return them."""
        with self._lock:
            removed = list(self._cursors.pop(subscriber_id, {}).values())
            for cursor in removed:
                self._unfollow(cursor)
        for cursor in removed:
            cursor.ended = True
            cursor.topic.release_stream(cursor.stream)
        return removed

    @any_thread
    def find(self, subscriber_id: int, id: str) -> Cursor | None:
        """Return a subscription by its client and its id, or None."""
        return self._cursors.get(subscriber_id, {}).get(id)

    @any_thread
    def of(self, subscriber_id: int) -> list[Cursor]:
        """Return the subscriptions of one client."""
        return list(self._cursors.get(subscriber_id, {}).values())

    @any_thread
    def lag(self, topic: str) -> int:
        """Return how many events of a topic its slowest unfiltered subscription has not received yet."""
        return max((cursor.lag for cursor in self.all() if cursor.topic.name == topic), default=0)

    @any_thread
    def all(self) -> list[Cursor]:
        """Return all subscriptions."""
        return [cursor for cursors in list(self._cursors.values()) for cursor in list(cursors.values())]
