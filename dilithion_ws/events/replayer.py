"""Subscriptions to `blocks` that begin at a block: the chain is replayed to them until they can join the log.

The shards know such a subscription as one that is still pending, so live delivery costs nothing more however many clients
catch up. When the client has reached a block that was the tip at some position of the log, its cursor is set there and
activated, and its shard continues.

    state       meaning                                                           next
    RESOLVING   its first read is outstanding, and with it the reply              WAITING, or over
    WAITING     the reply is on its way                                           READY
    READY       has its turn in the next step                                     FULL, PARKED, or over
    FULL        the client does not keep up                                       READY
    PARKED      it has all of the chain, and the log has not come that far yet    READY

It is over when it has joined the log, or an error has ended it, or the client has gone. The order of the host's work
makes the join exact: it changes its state before it publishes, so a chain that was read is never behind the log.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from ..errors import JsonRpcCode
from ..util.enums import OfferResult
from ..util.futures import Future, settle_future
from ..util.position import Position
from ..util.thread_contracts import any_thread, owner_only
from .chain_feed import ChainFeed, Progress, chain_is_unreadable, ended_before_reply
from .chain_history import ChainPoint, HistoryGapError, HistoryStep
from .cursor import Cursor, EndOfStream
from .follow_task import SinceBlock
from .log import EventsGoneError
from .stream import CHUNK_BYTES

__all__ = ["TRANSITIONS", "Replay", "ReplayState", "Replayer"]

logger = logging.getLogger("dilithion_ws.events")

SENT, BUFFERED, REJECTED, CLOSED = OfferResult


class ReplayState(Enum):
    """See the table above."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    READY = "ready"
    FULL = "full"
    PARKED = "parked"


RESOLVING, WAITING, READY, FULL, PARKED = ReplayState

TRANSITIONS: dict[ReplayState, frozenset[ReplayState]] = {
    RESOLVING: frozenset({WAITING}),
    WAITING: frozenset({READY}),
    READY: frozenset({FULL, PARKED}),
    FULL: frozenset({READY}),
    PARKED: frozenset({READY}),
}


class Replay:
    """One subscription that begins at a block.

    Args:
        cursor: the subscription, which is pending.
        since: the block that the client has.
        reply: the reply to its client, apart from what the first read decides.
        replayer: sends.

    Attributes:
        answer: gets the reply.
        point: the place that the client has reached.
        state: see above.
    """

    def __init__(self, cursor: Cursor, since: SinceBlock, reply: dict[str, Any], replayer: Replayer) -> None:
        self.cursor = cursor
        self.since = since
        self.reply = reply
        self._replayer = replayer
        self.answer: Future[dict[str, Any]] = Future()
        self.point = ChainPoint(-1, "")
        self.state = RESOLVING

    def __repr__(self) -> str:
        return f"<Replay of {self.cursor!r}, {self.state.value} at {self.point.height}>"

    @any_thread
    def start(self) -> None:
        """Begin to send, since the reply was queued."""
        self._replayer.start(self)

    @owner_only
    def reach(self, point: ChainPoint) -> None:
        """Move to the place that the client has reached, at which it resumes if the subscription ends there."""
        self.point = point
        self.cursor.resume = {"since": point.as_since()}

    @owner_only
    def transition(self, state: ReplayState) -> None:
        """Change the state."""
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state


class Replayer:
    """Replays the chain of one topic to those who subscribe from a block.

    Args:
        feed: the chain, and the log that they join.
    """

    def __init__(self, feed: ChainFeed) -> None:
        self._feed = feed
        self._history = feed.history
        self._index = feed.index
        self._resolving: deque[Replay] = deque()
        self._ready: deque[Replay] = deque()
        self._parked: list[Replay] = []
        self._full: dict[int, list[Replay]] = {}  # by the subscriber's id
        self._has_failed = False

    # From any thread

    @any_thread
    def begin(self, cursor: Cursor, since: SinceBlock, reply: dict[str, Any]) -> Replay:
        """Begin with a pending cursor. `answer` of the result gets the reply. Call `start` once that was queued."""
        replay = Replay(cursor, since, reply, self)
        self._feed.begin(lambda: self._resolving.append(replay))
        return replay

    @any_thread
    def start(self, replay: Replay) -> None:
        """Send, since the reply was queued."""
        self._feed.post(lambda: self._start(replay))

    # The stepping thread

    @owner_only
    def on_writable(self, subscriber_id: int) -> None:
        """Resume the replays of a client that accepts data again."""
        self._make_ready(self._full.pop(subscriber_id, []))

    @owner_only
    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget the replays of subscriptions that have ended. Those that have their turn are left out then."""
        for id in {cursor.subscriber.id for cursor in cursors} & self._full.keys():
            self._full[id] = [replay for replay in self._full[id] if not replay.cursor.ended]
            if not self._full[id]:
                del self._full[id]

    @owner_only
    def on_end(self, cursor: Cursor) -> None:
        """Do nothing: the replay's next turn lets its shard send the error."""

    @owner_only
    def step(self, looked: bool) -> Progress:
        """Serve some of the clients."""
        if looked:
            parked, self._parked = self._parked, []
            self._make_ready(parked)
        failed = False
        for queue, serve in ((self._resolving, self._resolve), (self._ready, self._serve)):
            for index in range(len(queue)):
                if index and not self._feed.has_time:
                    break
                failed |= not self._try(serve, queue.popleft())
        self._has_failed = failed
        more = bool(self._ready or self._resolving)
        return Progress(more, watches=more or bool(self._parked or self._full), looks=bool(self._parked))

    def _try(self, serve: Callable[[Replay], None], replay: Replay) -> bool:
        """Serve a replay. Return False if the host's functions have failed, so that it is tried again later."""
        if replay.cursor.ended:
            settle_future(replay.answer, ended_before_reply())
            return True
        try:
            serve(replay)
        except HistoryGapError as gap:
            self._refuse(replay, gap)
        except Exception as error:
            if not self._has_failed:
                logger.warning("the chain can't be read for clients that resume: %s", error)
            if replay.state is RESOLVING:
                settle_future(replay.answer, chain_is_unreadable(error))
            else:
                self._park(replay)
            return False
        return True

    def _resolve(self, replay: Replay) -> None:
        """Find where a client begins, and reply that it is recovered."""
        replay.point = self._history.start(replay.since.height, replay.since.hash)
        self._history.check(replay.point)  # a branch that is not known is refused by the reply
        replay.reach(replay.point)
        replay.transition(WAITING)
        settle_future(replay.answer, {**replay.reply, "recovered": True})

    def _refuse(self, replay: Replay, gap: HistoryGapError) -> None:
        if replay.state is RESOLVING:
            settle_future(replay.answer, {**replay.reply, "recovered": False, "reason": gap.reason, "detail": str(gap)})
        else:
            replay.cursor.end = EndOfStream(JsonRpcCode.EVENTS_LOST, str(gap), {"reason": gap.reason})
            self._feed.activate(replay.cursor)

    def _start(self, replay: Replay) -> None:
        if replay.state is WAITING:
            self._make_ready([replay])
        else:  # it was refused, so the subscription begins at the position in the reply
            self._feed.activate(replay.cursor)

    def _make_ready(self, replays: list[Replay]) -> None:
        for replay in replays:
            replay.transition(READY)
            self._ready.append(replay)

    def _park(self, replay: Replay) -> None:
        replay.transition(PARKED)
        self._parked.append(replay)

    def _serve(self, replay: Replay) -> None:
        """Send the next steps to a client, or let it join the log."""
        cursor = replay.cursor
        if cursor.end is not None or self._join(replay):
            self._feed.activate(cursor)
            return
        steps = _piece(self._history.steps_after(replay.point))
        if not steps:
            self._park(replay)
            return
        after = steps[-1].after
        wanted = _matching(cursor, steps)
        result = SENT
        if wanted:
            encoder = cursor.subscriber.encoder
            frames = [encoder.encode(cursor.stream.message(b'"history":true,', event)) for event in wanted]
            result = cursor.subscriber.try_send(b"".join(frames), cursor)
        if result in (SENT, BUFFERED):
            replay.reach(after)
        if result is SENT:
            self._ready.append(replay)
        elif result is not CLOSED:
            replay.transition(FULL)
            self._full.setdefault(cursor.subscriber.id, []).append(replay)

    def _join(self, replay: Replay) -> bool:
        """Set the cursor to the position in the log at which the client's block is the tip, if there is one."""
        cursor, position = replay.cursor, self._index.position_of(replay.point)
        if position is None:
            return False
        try:
            cursor.topic.log.check_position(position)
        except EventsGoneError:
            return False  # dropped since the index was updated
        cursor.position = Position(*position)  # an object of its own: see invariant 3 in `cursor.py`
        cursor.resume = None
        return True


def _piece(steps: list[HistoryStep]) -> list[HistoryStep]:
    """Return the first steps, about as many bytes as the log sends at a time."""
    size = 0
    for index, step in enumerate(steps):
        size += len(step.event)
        if index and size > CHUNK_BYTES:
            return steps[:index]
    return steps


def _matching(cursor: Cursor, steps: list[HistoryStep]) -> list[bytes]:
    wanted = cursor.stream.filter
    return [step.event for step in steps if wanted is None or wanted.matches_event(step.event)]
