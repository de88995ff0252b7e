"""A cursor: the position of one subscription in a stream.

    state     meaning                                             next
    PENDING   the reply to `subscribe` is not queued yet, or      LIVE
              the chain is being replayed (see `replayer.py`)
    LIVE      receives new entries                                BLOCKED
    BLOCKED   the client does not keep up; the position waits     LIVE

Invariants
1. Only the shard of the cursor changes `state` and `position`, and only in a step. The replayer may set the position of a
   pending cursor before it is activated.
2. `ended` is set once, by any thread, under the lock of the connection, and never cleared. Nothing is sent for an ended
   cursor, whatever its state.
3. Cursors that got the same bytes share one `Position` object. A cursor that needs another position gets an object of
   its own, which takes it out of the group (see `Shard._serve`).
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from ..util.position import Position
from .stream import Stream
from .subscriber import Subscriber
from .topic import Topic

__all__ = ["BLOCKED", "LIVE", "PENDING", "TRANSITIONS", "Cursor", "CursorState", "EndOfStream"]


class CursorState(Enum):
    """See the table above."""

    PENDING = "pending"
    LIVE = "live"
    BLOCKED = "blocked"


PENDING, LIVE, BLOCKED = CursorState

TRANSITIONS: dict[CursorState, frozenset[CursorState]] = {
    CursorState.PENDING: frozenset({CursorState.LIVE}),
    CursorState.LIVE: frozenset({CursorState.BLOCKED}),
    CursorState.BLOCKED: frozenset({CursorState.LIVE}),
}


class EndOfStream(NamedTuple):
    """Why the server ends a subscription: the error that the client gets."""

    code: int
    message: str
    data: dict[str, Any]


class Cursor:
    """One subscription.

    Attributes:
        topic: what is subscribed to.
        stream: what is read.
        subscriber: the client that reads it.
        position: after the last entry that was sent.
        state: see above.
        ended: whether it is over.
        end: why the server is about to end it, or None.
        is_ending: whether the error for that is being sent.
        resume: where its client resumes, as members of the error that ends it; None for the position. The replay of a
            chain sends no positions.
        followed_values: how many ids or addresses it follows, if its topic is followed.
        searched_events: how many events of the log are searched for it, since its filter was new or began later.
    """

    __slots__ = (
        "end",
        "ended",
        "followed_values",
        "is_ending",
        "position",
        "resume",
        "searched_events",
        "state",
        "stream",
        "subscriber",
        "topic",
    )

    def __init__(self, topic: Topic, stream: Stream, subscriber: Subscriber, position: Position) -> None:
        self.topic = topic
        self.stream = stream
        self.subscriber = subscriber
        self.position = position
        self.state = PENDING
        self.ended = False
        self.end: EndOfStream | None = None
        self.is_ending = False
        self.resume: dict[str, Any] | None = None
        self.followed_values = 0
        self.searched_events = 0

    def __repr__(self) -> str:
        return f"<Cursor {self.stream.id} of {self.subscriber.id}, {self.state.value} at {self.position.seq}>"

    @property
    def lag(self) -> int:
        """Events that were published and not sent to it; 0 for a filtered subscription, which skips events, or a pending
        one."""
        if self.stream.filter is not None or self.state is PENDING:
            return 0
        return self.topic.log.position.seq - self.position.seq

    def where_to_resume(self) -> dict[str, Any]:
        """Return the members of an error that say where its client resumes."""
        return {"epoch": self.position.epoch, "seq": self.position.seq} if self.resume is None else self.resume

    def transition(self, state: CursorState) -> bool:
        """Change the state. Return False if the cursor has ended in the meantime."""
        if self.ended:
            return False
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state
        return True
