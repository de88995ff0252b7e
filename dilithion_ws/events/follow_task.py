"""How far a subscription to `transactions` is. The states are explained in `transaction_follower.py`."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, Protocol

from ..util.futures import Future
from ..util.thread_contracts import any_thread, owner_only
from .chain_history import ChainPoint
from .follow import Follow

__all__ = [
    "BEHIND",
    "LIVE",
    "RESOLVING",
    "SCANNING",
    "TRANSITIONS",
    "WAITING",
    "FollowState",
    "FollowTask",
    "SinceBlock",
    "TaskStarter",
]


class FollowState(Enum):
    """See the table in `transaction_follower.py`."""

    RESOLVING = "resolving"
    WAITING = "waiting"
    SCANNING = "scanning"
    BEHIND = "behind"
    LIVE = "live"


RESOLVING, WAITING, SCANNING, BEHIND, LIVE = FollowState

TRANSITIONS: dict[FollowState, frozenset[FollowState]] = {
    RESOLVING: frozenset({WAITING}),
    WAITING: frozenset({SCANNING}),
    SCANNING: frozenset({BEHIND}),
    BEHIND: frozenset({SCANNING, LIVE}),
    LIVE: frozenset({SCANNING}),
}


class SinceBlock(NamedTuple):
    """A block after which a subscription begins: its height, and its hash if it is known."""

    height: int
    hash: str | None


class TaskStarter(Protocol):
    """Serves subscriptions. See `TransactionFollower`."""

    def start(self, task: FollowTask) -> None:
        """Send, since the reply was queued."""


class FollowTask:
    """One subscription.

    Args:
        follow: what it follows.
        since: where it begins, or None for the present state.
        reply: the reply to its client, apart from what the first read decides.
        follower: serves it.

    Attributes:
        answer: gets the reply.
        state: see above.
        scan: the next block to search, on the way back.
        before: where a client resumes that has not received the present state.
        failed_at: since when a block cannot be read, in seconds of the feed's clock; None if it can.
    """

    def __init__(self, follow: Follow, since: SinceBlock | None, reply: dict[str, Any], follower: TaskStarter) -> None:
        self.follow = follow
        follow.cursor.resume = {}  # at the block of the last event, which has it
        self.since = since
        self.reply = reply
        self._follower = follower
        self.answer: Future[dict[str, Any]] = Future()
        self.state = RESOLVING
        self.failed_at: float | None = None
        self.before: ChainPoint | None = None
        self.scan: ChainPoint | None = None

    def __repr__(self) -> str:
        return f"<FollowTask of {self.follow.cursor!r}, {self.state.value} at {self.follow.point.height}>"

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent for it, but perhaps an error."""
        return self.follow.cursor.ended or self.follow.cursor.end is not None

    @any_thread
    def start(self) -> None:
        """Begin to send, since the reply was queued."""
        self._follower.start(self)

    @owner_only
    def transition(self, state: FollowState) -> None:
        """Change the state."""
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state
