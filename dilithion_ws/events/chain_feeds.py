"""The chains that a hub's topics can be read back from, and the subscriptions that begin at a block of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..config.limits import Limits
from ..errors import ConfigError
from ..util.clock import Clock
from ..util.thread_contracts import any_thread
from . import node_events
from .block_digest import TransactionHooks
from .chain_feed import Activator, ChainFeed
from .chain_history import ChainHistory, ChainHooks
from .chain_index import ChainIndex
from .cursor import PENDING, Cursor
from .follow_task import FollowTask, SinceBlock
from .replayer import Replay, Replayer
from .topic import Topic, TopicSpec
from .transaction_follower import TransactionFollower

__all__ = ["BLOCKS", "TRANSACTIONS", "ChainFeeds", "transactions_topic"]

BLOCKS = "blocks"
TRANSACTIONS = "transactions"


def transactions_topic() -> TopicSpec:
    """Return the topic by which clients follow transactions. Its log stays empty."""
    filters = {"txid": "txid", "address": "addresses", "confirmations": "confirmations"}
    return TopicSpec(
        TRANSACTIONS,
        permission="READ_BLOCKCHAIN|READ_MEMPOOL",
        filters=filters,
        schema=node_events.Transactions,
        is_followed=True,
    )


class ChainFeeds:
    """Finds the feed of a topic.

    Args:
        limits: bounds.
        clock: seconds that never go backwards.
        activator: starts delivery from the log to a cursor.
    """

    def __init__(self, limits: Limits, clock: Clock, activator: Activator) -> None:
        self._limits = limits
        self._clock = clock
        self._activator = activator
        self._feeds: dict[str, ChainFeed] = {}
        self._replayers: dict[str, Replayer] = {}
        self._follower: TransactionFollower | None = None

    @any_thread
    def all(self) -> list[ChainFeed]:
        """Return the feeds, each of which a thread of its own steps."""
        return list(self._feeds.values())

    @any_thread
    def add_history(self, topic: Topic, hooks: ChainHooks) -> None:
        """Let clients subscribe to a topic from a block. See `WebSocketServer.history`."""
        name = topic.name
        if name in self._feeds:
            raise ConfigError(f"topic {name} has a history already")
        history = ChainHistory(hooks, topic, self._limits)
        feed = self._feeds[name] = ChainFeed(history, ChainIndex(topic.log), self._activator, self._clock)
        replayer = self._replayers[name] = Replayer(feed)
        feed.parts.append(replayer)
        topic.follower = feed

    @any_thread
    def add_transactions(self, mempool: Topic, hooks: TransactionHooks) -> None:
        """Let clients follow transactions. See `WebSocketServer.transactions`."""
        feed = self._feeds.get(BLOCKS)
        if feed is None:
            raise ConfigError("transactions are found in blocks: call history('blocks', ...) first")
        if self._follower is not None:
            raise ConfigError("transactions can be followed already")
        self._follower = TransactionFollower(feed, hooks, mempool.log, self._limits)
        feed.parts.append(self._follower)
        mempool.follower = feed

    @any_thread
    def begin(self, cursor: Cursor, since: SinceBlock | None, reply: dict[str, Any]) -> Replay | FollowTask | None:
        """Serve a pending subscription.

        Args:
            cursor, reply: as `EventHub.subscribe` has returned them.
            since: the block after which it begins, or None for the present.

        Returns:
            What has the reply, or None if the topic's log serves the subscription by itself, or cannot begin there.

        Raises:
            RpcError: -32602, a bad filter.
        """
        if cursor.topic.is_followed:
            assert self._follower is not None
            return self._follower.begin(cursor, since, reply)
        replayer = self._replayers.get(cursor.topic.name)
        if since is None or replayer is None:
            return None
        return replayer.begin(cursor, since, reply)

    @any_thread
    def on_writable(self, subscriber_id: int) -> None:
        """Resume a client that accepts data again."""
        for feed in self._feeds.values():
            feed.on_writable(subscriber_id)

    @any_thread
    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget subscriptions that have ended."""
        concerned = [cursor for cursor in cursors if cursor.state is PENDING]  # the log serves the others
        for feed in self._feeds.values() if concerned else ():
            feed.on_ended(concerned)

    @any_thread
    def on_end(self, cursor: Cursor) -> None:
        """Let the error be sent that ends a subscription."""
        for feed in self._feeds.values():
            feed.on_end(cursor)
