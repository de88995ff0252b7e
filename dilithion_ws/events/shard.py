"""A shard: some of the subscriptions, and the one place where their cursors move.

A shard is stepped by one thread at a time, its pump. All that changes it comes as a command, carried out in a step. So a
subscription needs no lock: live delivery, replay and a slow client are one loop over cursors. Publishers mark a topic
and ring, no more.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import JsonRpcCode
from .cursor import BLOCKED, LIVE, Cursor, EndOfStream
from .log import EventsGoneError, Position
from .subscriber import BUSY, FULL, GONE, SendMany, offer_each
from .topic import Batch, Stream, Topic

__all__ = ["Shard"]

logger = logging.getLogger("dilithion_ws.events")


class Shard:
    """Some of the subscriptions.

    Args:
        index: its number among the shards.
        forget: called when a subscription has ended here.
        offer: offers the same bytes to many, see `sink.offer_each`.

    Attributes:
        ring: wakes whoever calls `step`; to be set by him.
        stepping: held by him meanwhile.
    """

    def __init__(self, index: int, forget: Callable[[Cursor], None], offer: SendMany = offer_each) -> None:
        self.index = index
        self.ring: Callable[[], None] = lambda: None
        self.stepping = threading.Lock()
        self._forget = forget
        self._offer = offer
        self._commands: deque[Callable[[], None]] = deque()
        self._marked: deque[Topic] = deque()
        self._is_marked: set[Topic] = set()
        self._live: dict[Stream, dict[Cursor, None]] = {}
        self._blocked: dict[int, dict[Cursor, bool]] = {}  # by the sink's id; whether it was the one that filled it
        self._again: dict[Cursor, None] = {}

    # From any thread

    def mark(self, topic: Topic) -> None:
        """Says that a topic has something new: to be called after it has."""
        if topic not in self._is_marked:
            self._is_marked.add(topic)
            self._marked.append(topic)
            self.ring()

    def post(self, command: Callable[[], None]) -> None:
        """Has a command carried out, soon and in order."""
        self._commands.append(command)
        self.ring()

    def activate(self, subscription: Cursor) -> None:
        """Lets a subscription that was held have what there is behind its place, and what comes."""
        self.post(lambda: self._activate(subscription))

    def ready(self, sink_id: int) -> None:
        """A client that was behind takes more."""
        self.post(lambda: self._ready(sink_id))

    def end(self, subscription: Cursor, ending: EndOfStream) -> None:
        """Ends a subscription with an error that the client gets."""
        self.post(lambda: self._end(subscription, ending))

    def drop(self, subscriptions: list[Cursor]) -> None:
        """Forgets subscriptions that have ended."""
        self.post(lambda: self._drop(subscriptions))

    # The pump

    def step(self) -> bool:
        """Carries out the commands and sends what is new, a piece for each subscriber; whether there is more to do."""
        for _ in range(len(self._commands)):
            _guarded(self._commands.popleft())
        again, self._again = self._again, {}
        due: dict[Stream, list[Cursor]] = {}
        for subscription in again:
            due.setdefault(subscription.stream, []).append(subscription)
        for _ in range(len(self._marked)):
            topic = self._marked.popleft()
            self._is_marked.discard(topic)  # before the log is read: a mark from now on is for what comes later
            _guarded(lambda topic=topic: self._look_at(topic, due))  # type: ignore[misc]
        for stream, subscriptions in due.items():
            _guarded(lambda stream=stream, subscriptions=subscriptions: self._serve(stream, subscriptions))  # type: ignore[misc]
        return bool(self._commands or self._marked or self._again)

    def _look_at(self, topic: Topic, due: dict[Stream, list[Cursor]]) -> None:
        for stream in topic.advance(self.index):
            due[stream] = list(self._live.get(stream, ()))

    def _serve(self, stream: Stream, subscriptions: list[Cursor]) -> None:
        """Sends the next piece to each; those at the same place get the same bytes."""
        made: dict[tuple[Position, Any], tuple[Batch | None, Position]] = {}
        group: list[Cursor] = []
        position = batch = after = None
        for subscription in subscriptions:
            # Who got the last piece together has one and the same position, and one framing: see `_batch`.
            if subscription.position is position:
                group.append(subscription)
                continue
            if subscription.ended or subscription.state is not LIVE:
                continue
            if subscription.ending is not None:
                self._send_end(subscription, subscription.ending)
                continue
            self._deliver(batch, after, group)
            position, group = subscription.position, [subscription]
            try:
                batch, after = self._batch(stream, position, subscription.sink.framing, made)
            except EventsGoneError as gone:
                text = "the events behind your position are gone; subscribe again"
                self._send_end(subscription, EndOfStream(JsonRpcCode.EVENTS_LOST, text, {"reason": gone.reason}))
                position, batch = None, None
            except Exception:
                logger.exception("nothing can be delivered to %r", subscription)
                self._remove(subscription)
                position, batch = None, None
        self._deliver(batch, after, group)

    def _deliver(self, batch: Batch | None, after: Position | None, group: list[Cursor]) -> None:
        if batch is None or after is None:
            return
        before = group[0].position
        rest = self._offer(batch.data, group)
        for subscription in group:
            subscription.position = after
        if batch.more:
            self._again.update(dict.fromkeys(group))
        for subscription, offer in rest:
            self._again.pop(subscription, None)
            if offer != FULL:
                subscription.position = before
            self._not_taken(subscription, offer)

    def _batch(
        self,
        stream: Stream,
        position: Position,
        framing: Any,
        made: dict[tuple[Position, Any], tuple[Batch | None, Position]],
    ) -> tuple[Batch | None, Position]:
        """What comes behind a place, and the place behind that: an object that only those with this framing get.

        Raises EventsGoneError.
        """
        found = made.get((position, framing))
        if found is None:
            batch = stream.next(position, framing)
            after = position if batch is None else Position(position.epoch, batch.seq)
            found = made[position, framing] = batch, after
        return found

    def _send_end(self, subscription: Cursor, ending: EndOfStream) -> None:
        subscription.ending = ending
        subscription.position = Position(*subscription.position)  # an object of its own: it leaves its group
        sink = subscription.sink
        try:
            frame = subscription.stream.end_frame(subscription.position, sink.framing, *ending)
            subscription.telling = True  # a quick client subscribes again as soon as it has read it
            offer = sink.offer(frame, subscription)
        except Exception:
            logger.exception("the end can't be told to %r", subscription)
            offer = GONE
        if offer == BUSY:
            subscription.telling = False
            self._not_taken(subscription, offer)  # it gets the error when it takes something again
        else:
            self._remove(subscription)

    def _not_taken(self, subscription: Cursor, offer: int) -> None:
        if offer == GONE:
            if not subscription.ended:  # else somebody else has ended it, and has it dropped
                self._remove(subscription)
        elif subscription.become(BLOCKED):
            self._live[subscription.stream].pop(subscription, None)
            self._blocked.setdefault(subscription.sink.id, {})[subscription] = offer == FULL

    def _activate(self, subscription: Cursor) -> None:
        if subscription.become(LIVE):
            self._live.setdefault(subscription.stream, {})[subscription] = None
            self._again[subscription] = None

    def _ready(self, sink_id: int) -> None:
        waiting = self._blocked.pop(sink_id, {})
        for subscription in sorted(waiting, key=waiting.__getitem__):  # who had the last place waits behind the others
            self._activate(subscription)

    def _end(self, subscription: Cursor, ending: EndOfStream) -> None:
        subscription.ending = ending
        subscription.position = Position(*subscription.position)  # an object of its own: it leaves its group
        if subscription.state is LIVE:
            self._again[subscription] = None

    def _remove(self, subscription: Cursor) -> None:
        subscription.ended = True
        self._drop([subscription])
        self._forget(subscription)

    def _drop(self, subscriptions: list[Cursor]) -> None:
        for subscription in subscriptions:
            live = self._live.get(subscription.stream)
            if live is not None:
                live.pop(subscription, None)
                if not live:
                    del self._live[subscription.stream]
            blocked = self._blocked.get(subscription.sink.id)
            if blocked is not None:
                blocked.pop(subscription, None)
                if not blocked:
                    del self._blocked[subscription.sink.id]


def _guarded(step: Callable[[], None]) -> None:
    """Does one thing; a fault of it must not keep the others from being done."""
    try:
        step()
    except Exception:
        logger.exception("a part of a step of delivering events failed; going on")
