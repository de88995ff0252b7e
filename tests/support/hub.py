"""An event hub without threads, and clients that accept as much as a test allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dilithion_ws import Limits, Retention, Session
from dilithion_ws.events.hub import EventHub
from dilithion_ws.events.node_topics import default_retention
from dilithion_ws.events.stream import Mode
from dilithion_ws.events.subscriber import Encoder, Undelivered, send_each
from dilithion_ws.events.topic import Topic, TopicSpec
from dilithion_ws.util.enums import OfferResult

from . import Clock

__all__ = ["FakeSubscriber", "LineEncoder", "add_topic", "make", "settle"]


class LineEncoder:
    """Makes one line of JSON of each payload."""

    def encode(self, payload: bytes) -> bytes:
        return payload + b"\n"


LINES = LineEncoder()


class FakeSubscriber:
    """A client that accepts `room` bytes and is full then, until the test sets `left` again."""

    def __init__(self, id: int, room: int = 1 << 30, user: str | None = None) -> None:
        self.id = id
        self.session = Session(id, ("127.0.0.1", 1), user)
        self.encoder: Encoder = LINES
        self.room = room
        self.left = room
        self.gone = False
        self.received: list[Any] = []

    @property
    def is_open(self) -> bool:
        return not self.gone

    def cancel(self, recipient: Any) -> None:
        recipient.ended = True

    def try_send(self, data: bytes, recipient: Any) -> OfferResult:
        if self.gone or recipient.ended:
            return OfferResult.CLOSED
        if self.left <= 0:
            return OfferResult.REJECTED
        self.left -= len(data)
        self.received += [json.loads(line)["params"] for line in data.splitlines()]
        return OfferResult.SENT if self.left > 0 else OfferResult.BUFFERED

    def send_many(self, data: bytes, recipients: Sequence[Any]) -> list[Undelivered]:
        return send_each(data, recipients)


def add_topic(hub: EventHub, name: str, **options: Any) -> Topic:
    """Add a topic that every client may read."""
    options.setdefault("permission", "READ_BLOCKCHAIN")
    options.setdefault("retention", default_retention(Limits()))
    if "mode" in options:
        options["mode"] = Mode(options["mode"])
    return hub.add(TopicSpec(name=name, **options))


def make(clock: Clock | None = None, **limits: Any) -> EventHub:
    """Return a hub with a topic `t` of eight entries."""
    hub = EventHub(Limits.from_names(pumps=1, **limits), clock or Clock())
    add_topic(hub, "t", retention=Retention(8, 100.0, 10_000), filters={"kind": "kind", "tag": "tags"})
    return hub


def settle(hub: EventHub) -> None:
    """Step the shards until they have nothing to do."""
    for _ in range(10_000):
        more = False
        for shard in hub.shards:
            with shard.step_lock:
                more |= shard.step()
        if not more:
            return
    raise AssertionError("the shards do not come to rest")
