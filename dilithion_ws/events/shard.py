"""A shard: some of the subscriptions, and the only code that moves their cursors.

One thread at a time steps a shard. Other threads change it only by commands, which the next step executes. So a cursor
needs no lock, and live delivery, replay and slow clients are one loop over cursors. A publisher only marks a topic and
wakes the shard.

The life of an event: `EventHub.publish` appends it to the log of its topic and calls `Shard.mark`. The next `step` asks
the topic for its dirty streams and, for each stream, takes the live cursors in groups of the same position and encoder.
Each group gets one batch of frames, made once, by `Subscriber.send_many`. A cursor whose client accepted the batch
advances past it; a cursor whose client did not becomes BLOCKED until `on_writable`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import JsonRpcCode
from ..util.enums import OfferResult
from ..util.position import Position
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, requires
from .cursor import BLOCKED, LIVE, Cursor, EndOfStream
from .cursor_registry import CursorRegistry
from .log import EventsGoneError
from .stream import Batch, Stream
from .subscriber import Encoder
from .topic import Topic

__all__ = ["Shard"]

logger = logging.getLogger("dilithion_ws.events")

_SEARCHES_PER_STEP = 4
"""Chunks of logs that are searched for old matches of filters before live events get their turn."""

SENT, BUFFERED, REJECTED, CLOSED = OfferResult


class Shard:
    """Some of the subscriptions.

    Args:
        index: its number among the shards.
        registry: where subscriptions that have ended are removed.

    Attributes:
        wake: set when there is something to do.
        step_lock: held by the thread that steps the shard.
    """

    def __init__(self, index: int, registry: CursorRegistry) -> None:
        self.index = index
        self.wake = WakeFlag()
        self.step_lock = threading.Lock()  # guards all but the two queues
        self._registry = registry
        self._commands: deque[Callable[[], None]] = deque()
        self._marked: deque[Topic] = deque()
        self._is_marked: set[Topic] = set()
        self._live: dict[Stream, dict[Cursor, None]] = {}
        self._blocked: dict[int, dict[Cursor, OfferResult]] = {}  # by the subscriber's id
        self._again: dict[Cursor, None] = {}  # have more to read than one batch
        self._searches_left = 0

    # From any thread

    @any_thread
    def mark(self, topic: Topic) -> None:
        """Record that a topic has new entries. Call it after they were appended."""
        if topic not in self._is_marked:
            self._is_marked.add(topic)
            self._marked.append(topic)
            self.wake.set()

    @any_thread
    def activate(self, cursor: Cursor) -> None:
        """Start delivery to a pending cursor: what is after its position, and then new entries."""
        self._post(lambda: self._activate(cursor))

    @any_thread
    def on_writable(self, subscriber_id: int) -> None:
        """Resume the blocked cursors of a client that accepts data again."""
        self._post(lambda: self._resume(subscriber_id))

    @any_thread
    def end(self, cursor: Cursor, end: EndOfStream) -> None:
        """End a subscription by an error that the client gets."""
        self._post(lambda: self._end(cursor, end))

    @any_thread
    def discard(self, cursors: list[Cursor]) -> None:
        """Forget cursors that have ended."""
        self._post(lambda: self._discard(cursors))

    @property
    def is_empty(self) -> bool:
        """Whether the shard has no subscription."""
        return not self._live and not self._blocked

    @any_thread
    def _post(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self.wake.set()

    # The delivery thread

    @requires("step_lock")
    def step(self) -> bool:
        """Execute the commands and send what is new, one batch for each cursor. Return whether there is more to do."""
        for _ in range(len(self._commands)):
            _guarded(self._commands.popleft())
        again, self._again = self._again, {}
        self._searches_left = _SEARCHES_PER_STEP
        due: dict[Stream, list[Cursor]] = {}
        for cursor in again:
            due.setdefault(cursor.stream, []).append(cursor)
        for _ in range(len(self._marked)):
            topic = self._marked.popleft()
            self._is_marked.discard(topic)  # before the log is read: a later mark is for entries that are not read now
            _guarded(lambda topic=topic: self._collect(topic, due))  # type: ignore[misc]
        for stream, cursors in due.items():
            _guarded(lambda stream=stream, cursors=cursors: self._serve(stream, cursors))  # type: ignore[misc]
        return bool(self._commands or self._marked or self._again)

    def _collect(self, topic: Topic, due: dict[Stream, list[Cursor]]) -> None:
        for stream in topic.take_dirty_streams(self.index):
            due[stream] = list(self._live.get(stream, ()))

    def _serve(self, stream: Stream, cursors: list[Cursor]) -> None:
        """Send the next batch to each cursor of a stream.

        Cursors that got the last batch together share one Position object (invariant 3 in `cursor.py`), and are adjacent
        in the list. So comparing positions by identity is enough to put nearly all of them into one group, for which the
        batch is made once and sent in one loop.
        """
        batches: dict[tuple[Position, Any], _NextBatch] = {}
        group: list[Cursor] = []
        position: Position | None = None
        following: _NextBatch | None = None
        for cursor in cursors:
            if cursor.position is position:
                group.append(cursor)
                continue
            if cursor.ended or cursor.state is not LIVE:
                continue
            if cursor.end is not None:
                self._send_end(cursor, cursor.end)
                continue
            self._deliver(following, group)
            position, group, following = cursor.position, [cursor], None
            try:
                following = self._next_batch(stream, position, cursor.subscriber.encoder, batches)
            except EventsGoneError as gone:
                text = "the events behind your position are gone; subscribe again"
                self._send_end(cursor, EndOfStream(JsonRpcCode.EVENTS_LOST, text, gone.members))
                position = None
            except Exception:
                logger.exception("nothing can be delivered to %r", cursor)
                self._remove(cursor)
                position = None
        self._deliver(following, group)

    def _next_batch(
        self, stream: Stream, position: Position, encoder: Encoder, batches: dict[tuple[Position, Any], _NextBatch]
    ) -> _NextBatch:
        """Return the batch after a position, made once for each position and encoder."""
        found = batches.get((position, encoder))
        if found is None:
            is_known = stream.filter is None or stream.knows(position) or self._search(stream, position)
            batch = stream.next_batch(position, encoder) if is_known else None
            after = position if batch is None else Position(position.epoch, batch.seq)
            found = batches[position, encoder] = _NextBatch(batch, after, batch.more if batch else not is_known)
        return found

    def _search(self, stream: Stream, position: Position) -> bool:
        """Search for old matches of a stream, if there is time in this step. Return whether all of them are known."""
        if not self._searches_left:
            return False
        self._searches_left -= 1
        return stream.search_back(position)

    def _deliver(self, following: _NextBatch | None, group: list[Cursor]) -> None:
        if following is None:
            return
        if following.more:
            self._again.update(dict.fromkeys(group))
        if following.batch is None:
            return
        batch, before = following.batch, group[0].position
        undelivered = group[0].subscriber.send_many(batch.data, group)
        for cursor in group:
            cursor.position = following.after
        for cursor, result in undelivered:
            self._again.pop(cursor, None)
            if result is not BUFFERED:
                cursor.position = before
            self._stop_sending(cursor, result)

    def _stop_sending(self, cursor: Cursor, result: OfferResult) -> None:
        """Handle a client that did not simply accept a batch."""
        if result is CLOSED:
            if not cursor.ended:  # otherwise the thread that ended it also discards it
                self._remove(cursor)
        elif cursor.transition(BLOCKED):
            self._live[cursor.stream].pop(cursor, None)
            self._blocked.setdefault(cursor.subscriber.id, {})[cursor] = result

    def _send_end(self, cursor: Cursor, end: EndOfStream) -> None:
        cursor.end = end
        cursor.position = Position(*cursor.position)  # an object of its own: see invariant 3 in `cursor.py`
        subscriber = cursor.subscriber
        try:
            data = {**cursor.where_to_resume(), **end.data}
            frame = cursor.stream.encode_end(subscriber.encoder, end.code, end.message, data)
            cursor.is_ending = True  # before it is sent: a fast client subscribes again as soon as it has read it
            result = subscriber.try_send(frame, cursor)
        except Exception:
            logger.exception("the end can't be sent to %r", cursor)
            result = CLOSED
        if result is REJECTED:
            cursor.is_ending = False
            self._stop_sending(cursor, result)  # the error is sent when the client accepts data again
        else:
            self._remove(cursor)

    def _activate(self, cursor: Cursor) -> None:
        if cursor.transition(LIVE):
            self._live.setdefault(cursor.stream, {})[cursor] = None
            self._again[cursor] = None

    def _resume(self, subscriber_id: int) -> None:
        blocked = self._blocked.pop(subscriber_id, {})
        # The cursor that filled the write buffer comes last, so that the others get their turn.
        for cursor in sorted(blocked, key=lambda cursor: blocked[cursor] is BUFFERED):
            self._activate(cursor)

    def _end(self, cursor: Cursor, end: EndOfStream) -> None:
        cursor.end = end
        cursor.position = Position(*cursor.position)  # an object of its own: see invariant 3 in `cursor.py`
        if cursor.state is LIVE:
            self._again[cursor] = None

    def _remove(self, cursor: Cursor) -> None:
        cursor.ended = True
        self._discard([cursor])
        self._registry.remove(cursor)

    def _discard(self, cursors: list[Cursor]) -> None:
        for cursor in cursors:
            live = self._live.get(cursor.stream)
            if live is not None:
                live.pop(cursor, None)
                if not live:
                    del self._live[cursor.stream]
            blocked = self._blocked.get(cursor.subscriber.id)
            if blocked is not None:
                blocked.pop(cursor, None)
                if not blocked:
                    del self._blocked[cursor.subscriber.id]


class _NextBatch:
    """A batch, or None if there is none yet, the Position object that its receivers share afterwards, and whether they
    have to come again."""

    __slots__ = ("after", "batch", "more")

    def __init__(self, batch: Batch | None, after: Position, more: bool) -> None:
        self.batch = batch
        self.after = after
        self.more = more


def _guarded(step: Callable[[], None]) -> None:
    """Execute one part of a step. A fault in it must not prevent the others."""
    try:
        step()
    except Exception:
        logger.exception("a part of a step of delivering events failed; going on")
