"""One subscriber's place in a stream.

    state     meaning                                            next
    HELD      the reply to `subscribe` is not on its way yet     LIVE, ENDED
    LIVE      gets what comes                                    BLOCKED, ENDED
    BLOCKED   the client does not keep up; the place waits       LIVE, ENDED
    ENDED     terminal, see below

Only the shard that the subscription belongs to moves `position` and changes the state. ENDED is a flag of its own, which
anybody may raise and nobody lowers: whoever sees it does nothing more.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from .log import Position
from .subscriber import Subscriber
from .topic import Stream

__all__ = ["BLOCKED", "HELD", "LIVE", "TRANSITIONS", "EndOfStream", "CursorState", "Cursor"]


class CursorState(Enum):
    """Where a subscription is in its life; see the table above."""

    HELD = "held"
    LIVE = "live"
    BLOCKED = "blocked"


HELD, LIVE, BLOCKED = CursorState
"""Short names, which are quicker to look up before Python 3.12."""

TRANSITIONS: dict[CursorState, frozenset[CursorState]] = {
    CursorState.HELD: frozenset({CursorState.LIVE}),
    CursorState.LIVE: frozenset({CursorState.BLOCKED}),
    CursorState.BLOCKED: frozenset({CursorState.LIVE}),
}


class EndOfStream(NamedTuple):
    """Why the server ends a subscription: the error that the client gets."""

    code: int
    message: str
    data: dict[str, Any]


class Cursor:
    """A cursor.

    Attributes:
        stream: what is read.
        sink: who reads it.
        position: behind the last entry that was sent.
        state: see above.
        ended: whether it is over.
        ending: set where the server is about to end it.
        telling: whether that is being offered to the client.
    """

    __slots__ = ("ended", "ending", "position", "sink", "state", "stream", "telling")

    def __init__(self, stream: Stream, sink: Subscriber, position: Position) -> None:
        self.stream = stream
        self.sink = sink
        self.position = position
        self.state = HELD
        self.ended = False
        self.ending: EndOfStream | None = None
        self.telling = False

    def __repr__(self) -> str:
        return f"<Subscription {self.stream.id} of {self.sink.id}, {self.state.value} at {self.position.seq}>"

    def become(self, state: CursorState) -> bool:
        """Changes the state; False where it has ended meanwhile."""
        if self.ended:
            return False
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state
        return True
