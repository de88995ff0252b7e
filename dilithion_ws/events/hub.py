"""Topics, and who is subscribed to what: the floor's front door.

Publishers come in by `publish`, clients by `subscribe` and `unsubscribe`, the transport by `ready` and `closed`. None of
them waits for a client. What is sent, and when, is the shards' affair.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config.limits import Limits, limit_reached
from ..errors import ConfigError, EventError, JsonRpcCode, RpcError, UnknownTopicError
from ..util.clock import Clock
from . import node_events as schemas
from .cursor import Cursor, EndOfStream
from .election import Leadership, SoleLeader
from .encoding import encode_event
from .filters import Filter
from .log import EventsGoneError, Position, Retention
from .shard import Shard
from .store import EventStore
from .subscriber import SendMany, Subscriber, offer_each
from .topic import ALL, LATEST, Stream, Topic

__all__ = ["USER_PREFIX", "EventHub"]

USER_PREFIX = "user/"
"""How the private topic of a user begins; the user's name follows."""

_BY_KIND = {"kind": "kind"}
_NODE_TOPICS: tuple[tuple[str, str, Mapping[str, str], Any], ...] = (
    ("blocks", "READ_BLOCKCHAIN", _BY_KIND, schemas.Blocks),
    ("mempool", "READ_MEMPOOL", {**_BY_KIND, "txid": "txid", "address": "addresses"}, schemas.Mempool),
    ("peers", "READ_BLOCKCHAIN", _BY_KIND, schemas.Peers),
    ("mining", "READ_MINING", _BY_KIND, schemas.Mining),
)
_NAME_MOST = 128
_RETRY_MS = 1000


def _denied(name: str) -> RpcError:
    return RpcError(JsonRpcCode.PERMISSION_DENIED, f"Permission denied: {name[:64]} is not yours to read")


class EventHub:
    """All topics of one server. Thread-safe.

    Args:
        limits: bounds.
        clock: seconds that never go backwards.
        frame: makes a frame of a payload, in the framing of a sink.
        allowed: whether a session may read a topic.
        store: keeps the logs; None for memory.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        frame: Callable[[bytes, Any], bytes],
        allowed: Callable[[Any, Topic], bool] = lambda session, topic: True,
        store: EventStore | None = None,
        offer: SendMany = offer_each,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._frame = frame
        self.allowed = allowed
        self._store = store
        self._registry = threading.Lock()  # guards `_topics`, `_users` and `_subscriptions`
        self._topics: dict[str, Topic] = {}
        self._users: OrderedDict[str, Topic] = OrderedDict()
        self._subscriptions: dict[int, dict[str, Cursor]] = {}  # by the sink's id, then by their own
        self.shards = [Shard(index, self._forget, offer) for index in range(limits.events.pumps)]
        for name, permission, filters, schema in _NODE_TOPICS:
            self.add(name, permission, retention=self._retention(least=1), filters=filters, schema=schema)

    # Topics

    def add(
        self,
        name: str,
        permission: str | None = None,
        *,
        retention: Retention | None = None,
        mode: str = ALL,
        filters: Mapping[str, str] | None = None,
        schema: Any = None,
    ) -> Topic:
        """Makes a topic, or makes one that is there anew where nobody has used it yet; see `WebSocketServer.topic`."""
        if not name or len(name) > _NAME_MOST or not name.isprintable() or name.startswith(USER_PREFIX):
            raise ConfigError(
                f"{name[:64]!r} is no name for a topic: 1 to {_NAME_MOST} printable characters, not beginning with "
                f"{USER_PREFIX}"
            )
        if mode not in (ALL, LATEST):
            raise ConfigError(f"mode of topic {name} is {mode!r}; it takes {ALL!r} or {LATEST!r}")
        topic = self._make(name, permission, retention, mode, _BY_KIND if filters is None else filters, schema)
        with self._registry:
            old = self._topics.get(name)
            if old is not None and (old.in_use or old.log.position.seq):
                raise ConfigError(f"topic {name} is in use already")
            if old is None and len(self._topics) >= self._limits.events.topics:
                raise ConfigError(f"topic {name} is past the {limit_reached(self._limits, 'topics')}")
            self._topics[name] = topic
            if self._store is not None:
                self._store.adopt(topic)
        return topic

    def _make(
        self,
        name: str,
        permission: str | None,
        retention: Retention | None,
        mode: str,
        filters: Mapping[str, str],
        schema: Any,
    ) -> Topic:
        retention = self._retention() if retention is None else retention
        epoch = secrets.token_hex(8)
        return Topic(
            name, permission, retention, mode, filters, schema, self._clock, epoch, self._frame, len(self.shards)
        )

    def _retention(self, least: int = 0) -> Retention:
        limits = self._limits
        return Retention(limits.history.history_entries, limits.history.history_age, limits.history.history_size, least)

    def topics(self) -> list[Topic]:
        """The host's topics and the node's, not those of users."""
        return list(self._topics.values())

    def topic(self, name: str) -> Topic:
        """The topic of this name; raises UnknownTopicError."""
        if name.startswith(USER_PREFIX):
            return self._user_topic(name)
        topic = self._topics.get(name)
        if topic is None:
            known = ", ".join(sorted(self._topics))
            raise UnknownTopicError(f"there is no topic {name[:64]!r}; there are {known}")
        return topic

    def _user_topic(self, name: str) -> Topic:
        """A user's own topic, made when it is first asked for."""
        with self._registry:
            topic = self._users.get(name)
            is_new = topic is None
            if topic is None:
                if not name.isprintable() or len(name) > _NAME_MOST:
                    raise EventError(f"{name[:64]!r} is no topic of a user: 1 to {_NAME_MOST} printable characters")
                if len(self._users) >= self._limits.events.user_topics:
                    self._forget_user_topic()
                topic = self._users[name] = self._make(name, None, None, ALL, _BY_KIND, None)
            self._users.move_to_end(name)
            if is_new and self._store is not None:
                self._store.adopt(topic)  # before anybody else can see it
            return topic

    def _forget_user_topic(self) -> None:
        """Makes room: the topic that was not used for longest and has no subscriber goes. Who comes for it later is told
        by its epoch."""
        for name, topic in self._users.items():
            if not topic.in_use:
                del self._users[name]
                if self._store is not None:
                    self._store.forget(topic)
                return

    # Publishing

    def publish(self, name: str, event: Any, term: int = 0) -> None:
        """Appends an event to a topic; see `WebSocketServer.publish`.

        With a term of a `Leadership` it counts in that term only; raises NotLeadingError where that is known to be over.
        """
        while True:
            topic = self.topic(name)
            data = self.encode(topic, event)
            if self._store is None:
                self.append(topic, data)
            else:
                self._store.publish(topic, data, term)
            if self._is_current(topic):
                return  # else another user's topic took its place meanwhile

    def _is_current(self, topic: Topic) -> bool:
        return topic.name in self._topics or self._users.get(topic.name) is topic

    def encode(self, topic: Topic, event: Any) -> bytes:
        """An event as JSON; raises EventError where it is not fit for its topic."""
        try:
            data = encode_event(event)
            topic.check(data)  # also without a schema: not everything that can be written is JSON that others can read
        except Exception as error:
            raise EventError(f"event for topic {topic.name} can't be published: {error}") from None
        if len(data) > self._limits.events.event_size:
            raise EventError(
                f"event for topic {topic.name} has {len(data)} bytes, "
                f"past the {limit_reached(self._limits, 'event_size')}"
            )
        return data

    def append(self, topic: Topic, data: bytes, seq: int | None = None) -> None:
        """Makes an encoded event visible, and has it delivered."""
        topic.log.append(data, seq)
        self.announce(topic)

    def begin_anew(self, name: str, term: int = 0) -> None:
        """Gives a topic a new epoch behind what has been published: whoever was reading it is told of a loss.

        For a host that does not know what became of events that it should have published. `term` is as for `publish`.
        """
        topic = self.topic(name)
        if self._store is not None:
            self._store.begin_anew(topic, term)
        else:
            topic.log.restart(secrets.token_hex(8))
            self.announce(topic)

    def lead(self, names: Sequence[str]) -> Leadership:
        """Has one of several servers that share a store publish to some topics, and the others wait.

        From now on what this server publishes to them counts only while it leads. Once it does, their logs have all that
        was published before. Without a store that others can share, it always leads.
        """
        return SoleLeader() if self._store is None else self._store.lead([self.topic(name) for name in names])

    def announce(self, topic: Topic) -> None:
        """Has the shards look at a topic."""
        for shard in self.shards:
            shard.mark(topic)

    # Subscribers

    def subscribe(
        self,
        sink: Subscriber,
        name: str,
        filter: Mapping[str, Any] | None = None,
        since: Position | None = None,
        mode: str | None = None,
    ) -> tuple[Cursor, dict[str, Any]]:
        """Makes a subscription, and the reply to its client. It is held until `activate`.

        Args:
            sink: who subscribes.
            name: the topic.
            filter: which events.
            since: behind which place; None for the present head.
            mode: `all` or `latest`; None for the topic's own.

        Raises:
            RpcError: -32602 (no such topic, a bad filter, subscribed already), -32003, -32006, -32009 (no store).
        """
        topic = self._readable(sink, name)
        if topic.unavailable:
            text = f"Server busy: {topic.unavailable}"
            raise RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS})
        wanted = Filter(filter, topic.filters, self._limits.events.filter_values) if filter else None
        stream = topic.stream(wanted, mode or topic.mode)
        try:
            head = topic.log.position
            position, recovered = self._recover(stream, since, head)
            subscription = Cursor(stream, sink, position)
            self._register(subscription)
        except BaseException:
            topic.release(stream)
            raise
        # What may have changed before it was on the books, and would have been told to it since.
        if not self.may_read(sink.session, topic):
            self.cancel(subscription)
            raise _denied(name)
        if not (sink.is_open and self._is_current(topic)):
            self.cancel(subscription)
            raise RpcError(JsonRpcCode.SERVER_BUSY, "Server busy: try again", {"retry_after_ms": _RETRY_MS})
        reply = {"subscription": stream.id, "topic": name, "epoch": head.epoch, "seq": head.seq, **recovered}
        if stream.mode == LATEST:
            reply["mode"] = LATEST
        return subscription, reply

    def _recover(self, stream: Stream, since: Position | None, head: Position) -> tuple[Position, dict[str, Any]]:
        """Where a subscription begins, and what its client is told about that."""
        if since is None:
            return head, {}
        try:
            stream.topic.log.check(since)
            if stream.filter is not None:
                stream.topic.look_back(stream, since)
        except EventsGoneError as gone:
            return head, {"recovered": False, "reason": gone.reason}
        return since, {"recovered": True}

    def _readable(self, sink: Subscriber, name: str) -> Topic:
        if name.startswith(USER_PREFIX) and name[len(USER_PREFIX) :] != sink.session.user:
            raise _denied(name)  # before a topic is made for it
        try:
            topic = self.topic(name)
        except UnknownTopicError as error:
            raise RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: {error}") from None
        if not self.may_read(sink.session, topic):
            raise _denied(name)
        return topic

    def may_read(self, session: Any, topic: Topic) -> bool:
        """Whether a client may have a topic's events."""
        if topic.name.startswith(USER_PREFIX):
            return session.user is not None and topic.name == USER_PREFIX + session.user and session.admitted
        return self.allowed(session, topic)

    def _register(self, subscription: Cursor) -> None:
        limits, id = self._limits, subscription.stream.id
        with self._registry:
            mine = self._subscriptions.setdefault(subscription.sink.id, {})
            before = mine.get(id)
            if before is not None and before.telling:  # its end is on its way, and it will be off the books in a moment
                text = f"Server busy: the subscription {id} is ending; subscribe again"
                raise RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": 1})
            if before is not None:
                raise RpcError(JsonRpcCode.INVALID_PARAMS, f"Invalid params: subscribed already as {id}")
            if len(mine) >= limits.events.subscriptions:
                text = f"Too many subscriptions: past the {limit_reached(limits, 'subscriptions')}"
                raise RpcError(JsonRpcCode.TOO_MANY_SUBSCRIPTIONS, text, {"limit": limits.events.subscriptions})
            mine[id] = subscription

    def activate(self, subscription: Cursor) -> None:
        """The reply is on its way: what follows it may be sent."""
        self._shard(subscription).activate(subscription)

    def unsubscribe(self, sink_id: int, id: str) -> bool:
        """Ends a subscription as its client wishes; False where there is none."""
        subscription = self._subscriptions.get(sink_id, {}).get(id)
        if subscription is None:
            return False
        self.cancel(subscription)
        return True

    def cancel(self, subscription: Cursor) -> None:
        """Ends a subscription without a word."""
        subscription.sink.cancel(subscription)
        self._forget(subscription)
        self._shard(subscription).drop([subscription])

    def of(self, sink_id: int) -> list[Cursor]:
        """The subscriptions of one client."""
        return list(self._subscriptions.get(sink_id, {}).values())

    def all(self) -> list[Cursor]:
        """All subscriptions at this moment."""
        return [one for mine in list(self._subscriptions.values()) for one in list(mine.values())]

    def ready(self, sink_id: int) -> None:
        """A client that was behind takes more."""
        if sink_id in self._subscriptions:
            self.shards[sink_id % len(self.shards)].ready(sink_id)

    def closed(self, sink_id: int) -> None:
        """A client has gone."""
        with self._registry:
            gone = list(self._subscriptions.pop(sink_id, {}).values())
        for subscription in gone:
            subscription.ended = True
            subscription.stream.topic.release(subscription.stream)
        if gone:
            self._shard(gone[0]).drop(gone)

    def recheck(self, session: Any, sink_id: int) -> None:
        """A client's rights have changed: ends the subscriptions that it may not have any more."""
        for subscription in self.of(sink_id):
            if not self.may_read(session, subscription.stream.topic):
                ending = EndOfStream(
                    JsonRpcCode.PERMISSION_DENIED, "Permission denied: you may not read this any more", {}
                )
                self._shard(subscription).end(subscription, ending)

    def end_all(self, topic: Topic, ending: EndOfStream) -> None:
        """Ends all subscriptions to a topic with an error."""
        for subscription in self.all():
            if subscription.stream.topic is topic:
                self._shard(subscription).end(subscription, ending)

    def _shard(self, subscription: Cursor) -> Shard:
        return self.shards[subscription.sink.id % len(self.shards)]

    def _forget(self, subscription: Cursor) -> None:
        """Takes a subscription that has ended off the books, once."""
        with self._registry:
            mine = self._subscriptions.get(subscription.sink.id, {})
            if mine.get(subscription.stream.id) is not subscription:
                return
            del mine[subscription.stream.id]
            if not mine:
                del self._subscriptions[subscription.sink.id]
        subscription.stream.topic.release(subscription.stream)
