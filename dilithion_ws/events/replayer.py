"""Subscriptions that begin at a block: the chain is replayed to them until they can join the log.

One thread at a time steps the replayer. It alone calls the host's functions for reading the chain, which may block, and
sends what they return. The shards know such a subscription as one that is still pending, so live delivery costs nothing
more however many clients catch up. When the client has reached a block that was the tip at some position of the log, its
cursor is set there and activated, and its shard continues.

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
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

from ..errors import JsonRpcCode, RpcError
from ..util.clock import Clock
from ..util.enums import OfferResult
from ..util.futures import Future, settle_future
from ..util.repeating_thread import Pause
from ..util.thread_contracts import any_thread, requires
from .chain_history import ChainHistory, ChainPoint, HistoryGapError, HistoryStep
from .chain_index import ChainIndex
from .cursor import Cursor, EndOfStream
from .log import EventsGoneError, Position

__all__ = ["TRANSITIONS", "Replay", "ReplayState", "Replayer"]

logger = logging.getLogger("dilithion_ws.events")

SENT, BUFFERED, REJECTED, CLOSED = OfferResult

_RETRY_MS = 1000
_SHARE = Pause(0.001, 0.001)
"""A moment for other threads between two steps: replaying takes a part of the interpreter's time, not all of it."""
_LOOK_AGAIN = Pause(0.0, 1.0)
"""Until the chain is looked at again without an event, and until a failed read is repeated."""
_UNTIL_WOKEN = Pause(0.0, float("inf"))
_PER_STEP = 8
"""Clients that have their turn in a step."""


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
        since: height and hash (or None) of the block that the client has.
        reply: the reply to its client, apart from what the first read decides.
        replayer: sends.

    Attributes:
        answer: gets the reply.
        point: the place that the client has reached.
        state: see above.
    """

    def __init__(
        self, cursor: Cursor, since: tuple[int, str | None], reply: dict[str, Any], replayer: Replayer
    ) -> None:
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

    def transition(self, state: ReplayState) -> None:
        """Change the state."""
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state


class Replayer:
    """Replays the chain of one topic to those who subscribe from a block.

    Args:
        history: the chain.
        index: the log that they join.
        activate: starts delivery from the log to a cursor.
        clock: seconds that never go backwards.

    Attributes:
        wake: called by other threads when there is something to do; set it to what wakes the stepping thread.
        step_lock: held by the thread that steps it.
    """

    def __init__(
        self, history: ChainHistory, index: ChainIndex, activate: Callable[[Cursor], None], clock: Clock
    ) -> None:
        self._history = history
        self._index = index
        self._activate = activate
        self._commands: deque[Callable[[], object]] = deque()
        self._resolving: deque[Replay] = deque()
        self._ready: deque[Replay] = deque()
        self._parked: list[Replay] = []
        self._full: dict[int, list[Replay]] = {}  # by the subscriber's id
        self._clock = clock
        self._seen: Position | None = None  # the log, when the chain's tip was last looked at
        self._looked_at = 0.0
        self._is_busy = False
        self._has_failed = False
        self.wake: Callable[[], None] = _nobody
        self.step_lock = threading.Lock()  # guards all but the commands

    # From any thread

    @any_thread
    def begin(self, cursor: Cursor, since: tuple[int, str | None], reply: dict[str, Any]) -> Replay:
        """Begin with a pending cursor. `answer` of the result gets the reply. Call `start` once that was queued."""
        replay = Replay(cursor, since, reply, self)
        self._post(lambda: self._resolving.append(replay))
        return replay

    @any_thread
    def start(self, replay: Replay) -> None:
        """Send, since the reply was queued."""
        self._post(lambda: self._start(replay))

    @any_thread
    def on_writable(self, subscriber_id: int) -> None:
        """Resume the replays of a client that accepts data again."""
        if self._is_busy:
            self._post(lambda: self._make_ready(self._full.pop(subscriber_id, [])))

    @any_thread
    def on_closed(self, subscriber_id: int) -> None:
        """Forget the replays of a client that has disconnected."""
        if self._is_busy:
            self._post(lambda: self._full.pop(subscriber_id, None))

    @any_thread
    def on_event(self) -> None:
        """Record that the log has changed."""
        if self._is_busy:
            self.wake()

    @any_thread
    def _post(self, command: Callable[[], object]) -> None:
        self._commands.append(command)
        self.wake()

    # The stepping thread

    @requires("step_lock")
    def step(self) -> Pause:
        """Do a part of the work, and return the pause until the next step."""
        for _ in range(len(self._commands)):
            self._commands.popleft()()
        self._is_busy = bool(self._resolving or self._ready or self._parked or self._full)
        if not self._is_busy:
            return _UNTIL_WOKEN
        # From here on every event wakes this thread, so that one that is not in the log yet is not overlooked.
        if self._look():
            parked, self._parked = self._parked, []
            self._make_ready(parked)
        failed = False
        for queue, serve in ((self._resolving, self._resolve), (self._ready, self._serve)):
            for _ in range(min(len(queue), _PER_STEP)):
                failed |= not self._try(serve, queue.popleft())
        self._has_failed = failed
        if self._ready or self._resolving:
            return _SHARE
        return _LOOK_AGAIN if self._parked else _UNTIL_WOKEN

    def _look(self) -> bool:
        """Read the end of the log. Return whether the chain should be looked at again, too."""
        before = self._index.disconnected
        self._index.update()
        if self._index.disconnected != before:
            self._history.forget()
        now, position = self._clock(), self._index.position
        if position == self._seen and now - self._looked_at < _LOOK_AGAIN.maximum:
            return False
        self._seen, self._looked_at = position, now
        self._history.forget_tip()
        return True

    def _try(self, serve: Callable[[Replay], None], replay: Replay) -> bool:
        """Serve a replay. Return False if the host's functions have failed, so that it is tried again later."""
        if replay.cursor.ended:
            replay.answer.cancel()
            return True
        try:
            serve(replay)
        except HistoryGapError as gap:
            self._refuse(replay, gap)
        except Exception as error:
            if not self._has_failed:
                logger.warning("the chain can't be read for clients that resume: %s", error)
            if replay.state is RESOLVING:
                text = f"Server busy: the chain can't be read: {error}"
                settle_future(replay.answer, RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS}))
            else:
                self._park(replay)
            return False
        return True

    def _resolve(self, replay: Replay) -> None:
        """Find where a client begins, and reply that it is recovered."""
        replay.point = self._history.start(*replay.since)
        if self._index.position_of(replay.point) is None:
            self._history.steps_after(replay.point)  # a fork that is not known is refused by the reply
        replay.transition(WAITING)
        settle_future(replay.answer, {**replay.reply, "recovered": True})

    def _refuse(self, replay: Replay, gap: HistoryGapError) -> None:
        if replay.state is RESOLVING:
            settle_future(replay.answer, {**replay.reply, "recovered": False, "reason": gap.reason, "detail": str(gap)})
        else:
            replay.cursor.end = EndOfStream(JsonRpcCode.EVENTS_LOST, str(gap), {"reason": gap.reason})
            self._activate(replay.cursor)

    def _start(self, replay: Replay) -> None:
        if replay.state is WAITING:
            self._make_ready([replay])
        else:  # it was refused, so the subscription begins at the position in the reply
            self._activate(replay.cursor)

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
            self._activate(cursor)
            return
        steps = self._history.steps_after(replay.point)
        if not steps:
            self._park(replay)
            return
        after = steps[-1].after
        wanted = _matching(cursor, steps)
        result = SENT
        if wanted:
            frames = cursor.stream.history_frames(wanted, cursor.subscriber.encoder)
            result = cursor.subscriber.try_send(frames, cursor)
        if result in (SENT, BUFFERED):
            replay.point = after
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
            if cursor.stream.filter is not None:
                cursor.stream.backfill(position)
        except EventsGoneError:
            return False  # dropped since the index was updated
        cursor.position = Position(*position)  # an object of its own: see invariant 3 in `cursor.py`
        return True


def _matching(cursor: Cursor, steps: list[HistoryStep]) -> list[bytes]:
    wanted = cursor.stream.filter
    return [step.event for step in steps if wanted is None or wanted.matches_event(step.event)]


def _nobody() -> None:
    """Do nothing: no thread steps the replayer yet."""
