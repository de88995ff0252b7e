"""All topics of a server and the subscriptions to them: the entry point of this package.

Hosts publish by `publish`; clients come in by `subscribe` and `unsubscribe`, the transport by `on_writable` and
`on_closed`. None of these blocks on a client: delivery is done by the shards.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..config.limits import Limits, limit_reached
from ..errors import ConfigError, EventError, JsonRpcCode, RpcError, UnknownTopicError
from ..session import Session
from ..util.clock import Clock
from ..util.position import Position
from ..util.thread_contracts import any_thread
from .chain_feeds import ChainFeeds
from .cursor import Cursor, EndOfStream
from .cursor_registry import CursorRegistry
from .election import Leadership, SoleLeader
from .filters import Filter
from .log import EventsGoneError
from .node_topics import BY_KIND, default_retention, node_topics
from .shard import Shard
from .store import EventStore, StoreStatus
from .stream import NOTIFICATION, Mode, Stream
from .subscriber import Subscriber
from .topic import Availability, Topic, TopicSpec

__all__ = ["USER_PREFIX", "EventHub"]

logger = logging.getLogger("dilithion_ws.events")

USER_PREFIX = "user/"
"""Prefix of the private topic of a user; the user's name follows."""

_MAX_NAME_LENGTH = 128
_RETRY_MS = 1000


def _server_busy(text: str, retry_after_ms: int) -> RpcError:
    return RpcError(JsonRpcCode.SERVER_BUSY, f"Server busy: {text}", {"retry_after_ms": retry_after_ms})


def _denied(name: str) -> RpcError:
    return RpcError(JsonRpcCode.PERMISSION_DENIED, f"Permission denied: {name[:64]} is not yours to read")


class EventHub:
    """All topics of one server. Thread-safe.

    Args:
        limits: bounds.
        clock: seconds that never go backwards.
        store: keeps the logs, or None to keep them in memory.

    Attributes:
        cursors: all subscriptions.
        shards: what delivers events; each is stepped by a thread of its own.
        chains: what serves those who subscribe from a block, likewise.
    """

    def __init__(self, limits: Limits, clock: Clock, store: EventStore | None = None) -> None:
        self._limits = limits
        self._clock = clock
        self._store = store
        self._lock = threading.Lock()  # guards `_topics` and `_user_topics`
        self._topics: dict[str, Topic] = {}
        self._user_topics: OrderedDict[str, Topic] = OrderedDict()
        self.cursors = CursorRegistry(limits)
        self.chains = ChainFeeds(limits, clock, self)
        self.shards = [Shard(index, self.cursors) for index in range(limits.events.pumps)]
        for spec in node_topics(limits):
            self.add(spec)

    @property
    def store_status(self) -> StoreStatus | None:
        """How the store is, or None without one."""
        return None if self._store is None else self._store.status

    # Topics

    @any_thread
    def add(self, spec: TopicSpec) -> Topic:
        """Create a topic, or replace one that was never used. See `WebSocketServer.topic`."""
        name = spec.name
        if not name or len(name) > _MAX_NAME_LENGTH or not name.isprintable() or name.startswith(USER_PREFIX):
            raise ConfigError(
                f"{name[:64]!r} is not a name for a topic: 1 to {_MAX_NAME_LENGTH} printable characters, not beginning "
                f"with {USER_PREFIX}"
            )
        topic = self._create(spec)
        with self._lock:
            old = self._topics.get(name)
            if old is not None and (old.in_use or old.log.position.seq or old.follower is not None):
                raise ConfigError(f"topic {name} is in use already")
            if old is None and len(self._topics) >= self._limits.events.topics:
                raise ConfigError(f"topic {name} is past the {limit_reached(self._limits, 'topics')}")
            self._topics[name] = topic
            if self._store is not None:
                self._store.attach(topic)
        return topic

    def _create(self, spec: TopicSpec) -> Topic:
        if spec.retention is None:
            spec = msgspec.structs.replace(spec, retention=default_retention(self._limits))
        return Topic(spec, self._clock, secrets.token_hex(8), len(self.shards))

    @any_thread
    def topics(self) -> list[Topic]:
        """Return the topics of the node and the host, without those of users."""
        return list(self._topics.values())

    @any_thread
    def topic(self, name: str) -> Topic:
        """Return the topic of this name. Raise UnknownTopicError if there is none."""
        if name.startswith(USER_PREFIX):
            return self._user_topic(name)
        topic = self._topics.get(name)
        if topic is None:
            known = ", ".join(sorted(self._topics))
            raise UnknownTopicError(f"there is no topic {name[:64]!r}; there are {known}")
        return topic

    def _user_topic(self, name: str) -> Topic:
        """Return the private topic of a user, which is created at its first use."""
        with self._lock:
            topic = self._user_topics.get(name)
            is_new = topic is None
            if topic is None:
                if not name.isprintable() or len(name) > _MAX_NAME_LENGTH:
                    raise EventError(
                        f"{name[:64]!r} is not a topic of a user: 1 to {_MAX_NAME_LENGTH} printable characters"
                    )
                if len(self._user_topics) >= self._limits.events.user_topics:
                    self._drop_user_topic()
                spec = TopicSpec(name, filters=BY_KIND)
                topic = self._user_topics[name] = self._create(spec)
            self._user_topics.move_to_end(name)
            if is_new and self._store is not None:
                self._store.attach(topic)  # before another thread can see the topic
            return topic

    @any_thread
    def forget_user(self, user: str) -> None:
        """Delete the topic of a user and all of its events, stored ones too."""
        topic = self._user_topic(
            USER_PREFIX + user
        )  # read from the store first, since only then it can be deleted there
        with self._lock:
            if self._user_topics.get(topic.name) is topic:
                del self._user_topics[topic.name]
                if self._store is not None:
                    self._store.forget(topic)

    def _drop_user_topic(self) -> None:
        """Drop the topic that was unused for longest and has no subscriber. Later readers notice that by the epoch."""
        for name, topic in self._user_topics.items():
            if not topic.in_use:
                del self._user_topics[name]
                if self._store is not None:
                    self._store.detach(topic)
                return

    @any_thread
    def position_of(self, name: str) -> dict[str, Any] | None:
        """Return the position of a topic's log as answers carry it, or None if the topic does not exist."""
        try:
            epoch, seq = self.topic(name).log.position
        except UnknownTopicError as error:
            logger.error("an answer can't carry a position: %s", error)
            return None
        return {"topic": name, "epoch": epoch, "seq": seq}

    # Publishing

    @any_thread
    def publish(self, name: str, event: Any, term: int = 0) -> None:
        """Append an event to a topic. See `WebSocketServer.publish`.

        With a term of a `Leadership` it is published only in that term.

        Raises:
            NotLeadingError: the term is known to be over.
        """
        while True:
            topic = self.topic(name)
            data = topic.encode(event, self._limits)
            if self._store is None:
                self.append(topic, data)
            else:
                self._store.publish(topic, data, term)
            if self._is_current(topic):
                return  # otherwise the topic of a user was dropped in the meantime, and the event with it

    def _is_current(self, topic: Topic) -> bool:
        return topic.name in self._topics or self._user_topics.get(topic.name) is topic

    @any_thread
    def append(self, topic: Topic, data: bytes, seq: int | None = None) -> None:
        """Append an encoded event to the log, and deliver it."""
        topic.log.append(data, seq)
        self.announce(topic)

    @any_thread
    def start_new_epoch(self, name: str, term: int = 0) -> None:
        """Start a new epoch of a topic, after the events that were published so far: its readers learn of a loss.

        For a host that does not know which events it should have published. `term` is as for `publish`.
        """
        topic = self.topic(name)
        if self._store is not None:
            self._store.start_new_epoch(topic, term)
        else:
            topic.log.start_new_epoch(secrets.token_hex(8))
            self.announce(topic)

    @any_thread
    def lead(self, names: Sequence[str]) -> Leadership:
        """Elect one of several servers that share a store as the publisher of some topics.

        From now on, what this server publishes to them counts only while it leads. When it becomes the leader, their logs
        contain everything that was published before. Without a shared store, it always leads.
        """
        return SoleLeader() if self._store is None else self._store.lead([self.topic(name) for name in names])

    @any_thread
    def announce(self, topic: Topic) -> None:
        """Wake the shards after the log of a topic was changed."""
        for shard in self.shards:
            shard.mark(topic)
        if topic.follower is not None:
            topic.follower.on_event()

    # Subscribers

    @any_thread
    def subscribe(
        self,
        subscriber: Subscriber,
        name: str,
        filter: Mapping[str, Any] | None = None,
        since: Position | None = None,
        mode: Mode | None = None,
        notification: str = NOTIFICATION,
    ) -> tuple[Cursor, dict[str, Any]]:
        """Create a subscription, and return it with the reply to its client. It is pending until `activate`.

        Args:
            subscriber: the client.
            name: the topic.
            filter: which events.
            since: the position to begin at; None for the head.
            mode: what the client receives; None for the topic's own mode.
            notification: the method of its notifications.

        Raises:
            RpcError: -32602 (no such topic, a bad filter, already subscribed), -32003, -32006, -32009 (no store).
        """
        topic = self._readable_topic(subscriber.session, name)
        if topic.availability is not Availability.AVAILABLE:
            raise _server_busy(topic.availability.value, _RETRY_MS)
        wanted = Filter(filter, topic.filters, topic.filter_limits(self._limits.events)) if filter else None
        stream = topic.acquire_stream(wanted, topic.mode if mode is None else mode, notification)
        try:
            head = topic.log.position
            known_from = stream.known_from
            position, recovered = self._recover(topic, stream, since, head)
            previous = self.cursors.find(subscriber.id, stream.id)
            if previous is not None and previous.is_ending:
                # Its client may have read the error before the shard has removed the cursor, and does right to subscribe.
                self.cancel(previous)
            cursor = Cursor(topic, stream, subscriber, position)
            if wanted is not None and position.epoch == known_from.epoch:
                cursor.searched_events = max(0, known_from.seq - position.seq)
            if topic.is_followed and wanted is not None:
                cursor.followed_values = wanted.count(("txid", "address"))
            self.cursors.add(cursor)
        except BaseException:
            topic.release_stream(stream)
            raise
        # Changes before the cursor was registered did not reach it, so both conditions are checked again.
        if not self.may_read(subscriber.session, topic):
            self.cancel(cursor)
            raise _denied(name)
        if not (subscriber.is_open and self._is_current(topic)):
            self.cancel(cursor)
            raise _server_busy("try again", _RETRY_MS)
        reply = {"subscription": stream.id, "topic": name, "epoch": head.epoch, "seq": head.seq, **recovered}
        if stream.mode is Mode.LATEST:
            reply["mode"] = stream.mode.value
        return cursor, reply

    def _recover(
        self, topic: Topic, stream: Stream, since: Position | None, head: Position
    ) -> tuple[Position, dict[str, Any]]:
        """Return where a subscription begins, and the members of the reply that say so."""
        if since is None:
            return head, {}
        try:
            topic.log.check_position(since)
            if stream.filter is not None and not stream.knows(since):
                stream.search_back(since)  # one chunk, as a rule all of it; the shard does the rest
        except EventsGoneError as gone:
            return head, {"recovered": False, **gone.members}
        return since, {"recovered": True}

    def _readable_topic(self, session: Session, name: str) -> Topic:
        if name.startswith(USER_PREFIX) and name[len(USER_PREFIX) :] != session.user:
            raise _denied(name)  # before a topic is created for it
        try:
            topic = self.topic(name)
        except UnknownTopicError as error:
            raise RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {error}") from None
        if not self.may_read(session, topic):
            raise _denied(name)
        return topic

    @any_thread
    def may_read(self, session: Session, topic: Topic) -> bool:
        """Return whether a client may read the events of a topic."""
        if session.token is not None and not session.may_call_by_name("subscribe"):
            return False
        if topic.name.startswith(USER_PREFIX):
            return session.user is not None and topic.name == USER_PREFIX + session.user and session.is_authorized
        return session.has_rights(topic.required_rights)

    @any_thread
    def activate(self, cursor: Cursor) -> None:
        """Start delivery. Call it after the reply to `subscribe` was queued."""
        self._shard_of(cursor).activate(cursor)

    @any_thread
    def unsubscribe(self, subscriber_id: int, id: str) -> bool:
        """End a subscription at its client's request. Return False if it does not exist."""
        cursor = self.cursors.find(subscriber_id, id)
        if cursor is None:
            return False
        self.cancel(cursor)
        return True

    @any_thread
    def cancel(self, cursor: Cursor) -> None:
        """End a subscription without an error to its client."""
        cursor.subscriber.cancel(cursor)
        self.cursors.remove(cursor)
        self._shard_of(cursor).discard([cursor])
        self.chains.on_ended([cursor])

    @any_thread
    def on_writable(self, subscriber_id: int) -> None:
        """Resume delivery to a client that accepts data again."""
        if self.cursors.of(subscriber_id):
            self.shards[subscriber_id % len(self.shards)].on_writable(subscriber_id)
            self.chains.on_writable(subscriber_id)

    @any_thread
    def on_closed(self, subscriber_id: int) -> None:
        """Remove the subscriptions of a client that has disconnected."""
        removed = self.cursors.remove_all_of(subscriber_id)
        if removed:
            self._shard_of(removed[0]).discard(removed)
            self.chains.on_ended(removed)

    @any_thread
    def recheck_rights(self, session: Session) -> None:
        """End the subscriptions that a client may not have any more, after its rights have changed."""
        for cursor in self.cursors.of(session.connection_id):
            if not self.may_read(session, cursor.topic):
                text = "Permission denied: you may not read this any more"
                self._end(cursor, EndOfStream(JsonRpcCode.PERMISSION_DENIED, text, {}))

    @any_thread
    def end_all(self, topic: Topic, end: EndOfStream) -> None:
        """End all subscriptions to a topic by an error."""
        for cursor in self.cursors.all():
            if cursor.topic is topic:
                self._end(cursor, end)

    def _end(self, cursor: Cursor, end: EndOfStream) -> None:
        self._shard_of(cursor).end(cursor, end)
        self.chains.on_end(cursor)

    def _shard_of(self, cursor: Cursor) -> Shard:
        return self.shards[cursor.subscriber.id % len(self.shards)]
