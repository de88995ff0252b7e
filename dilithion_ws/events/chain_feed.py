"""What the subscriptions that begin at a block have in common: one chain, one log, and one thread that reads both.

The thread steps the feed; the feed looks at the log and at the end of the chain, and steps its parts: `Replayer` for the
topic `blocks`, `TransactionFollower` for `transactions`. The host's functions for reading the chain may block, so they
are called by this thread alone. Other threads hand over commands, which the next step executes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..errors import JsonRpcCode, RpcError
from ..util.clock import Clock
from ..util.position import Position
from ..util.repeating_thread import Pause
from ..util.thread_contracts import any_thread, requires
from .chain_history import ChainHistory
from .chain_index import ChainIndex
from .cursor import Cursor

__all__ = ["Activator", "ChainFeed", "ChainPart", "Progress", "chain_is_unreadable", "ended_before_reply"]

_STEP_SECONDS = 0.001
"""What a part may take in a step. A function of the host that is called then may take longer."""
_SHARE = Pause(0.001, 0.001)
"""A moment for other threads between two steps: this work takes a part of the interpreter's time, not all of it."""
_MOST_COMMANDS = 5000
_RETRY_MS = 1000
_LOOK_SECONDS = 1.0
"""Until the chain is looked at again without an event, and until a failed read is repeated."""


class Progress(NamedTuple):
    """What a part has left to do.

    Attributes:
        more: whether it has work now.
        watches: whether it waits for what comes next.
        looks: whether the chain has to be looked at again also without an event.
    """

    more: bool
    watches: bool
    looks: bool


class ChainPart(Protocol):
    """One kind of subscription."""

    def step(self, looked: bool) -> Progress:
        """Do a part of the work. `looked` says that the chain may have more than in the last step."""

    def on_writable(self, subscriber_id: int) -> None:
        """Resume a client that accepts data again."""

    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget subscriptions that have ended."""

    def on_end(self, cursor: Cursor) -> None:
        """Let the error be sent that ends a subscription."""


class Activator(Protocol):
    """Implemented by `EventHub`."""

    def activate(self, cursor: Cursor) -> None:
        """Start delivery from the log to a cursor."""


class ChainFeed:
    """Steps the parts. See the module's text.

    Args:
        history: the chain.
        index: the log of its topic.
        activator: starts delivery from the log to a cursor.
        clock: seconds that never go backwards.

    Attributes:
        parts: what is stepped.
        clock: seconds that never go backwards.
        wake: called by other threads when there is something to do; set it to what wakes the stepping thread.
        step_lock: held by the thread that steps it.
    """

    def __init__(self, history: ChainHistory, index: ChainIndex, activator: Activator, clock: Clock) -> None:
        self.history = history
        self.index = index
        self.activate = activator.activate
        self.parts: list[ChainPart] = []
        self.wake: Callable[[], None] = _nobody
        self.step_lock = threading.Lock()  # guards all but the commands
        self.clock = clock
        self._commands: deque[Callable[[], object]] = deque()
        self._writable: set[int] = set()  # ids of subscribers
        self._seen: Position | None = None  # the log, when the chain's tip was last looked at
        self._looked_at = 0.0
        self._is_busy = False
        self._looks = False
        self._step_until = 0.0

    # From any thread

    @any_thread
    def begin(self, command: Callable[[], object]) -> None:
        """Have the next step begin a subscription. Raise RpcError if too many wait, since the host does not answer."""
        if len(self._commands) >= _MOST_COMMANDS:
            text = "Server busy: too many wait until the chain can be read"
            raise RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS})
        self.post(command)

    @any_thread
    def post(self, command: Callable[[], object]) -> None:
        """Have the next step execute a function."""
        self._commands.append(command)
        self.wake()

    @any_thread
    def on_event(self) -> None:
        """Record that a log has changed."""
        if self._is_busy:
            self.wake()

    @any_thread
    def on_writable(self, subscriber_id: int) -> None:
        """Resume a client that accepts data again."""
        if self._is_busy:
            self._writable.add(subscriber_id)
            self.wake()

    @any_thread
    def on_ended(self, cursors: Iterable[Cursor]) -> None:
        """Forget subscriptions that have ended."""
        if self._is_busy:
            self.post(lambda: self._tell_parts(lambda part: part.on_ended(cursors)))

    @any_thread
    def on_end(self, cursor: Cursor) -> None:
        """Let the error be sent that ends a subscription."""
        if self._is_busy:
            self.post(lambda: self._tell_parts(lambda part: part.on_end(cursor)))

    # The stepping thread

    @requires("step_lock")
    def step(self) -> Pause:
        """Do a part of the work, and return the pause until the next step."""
        count = len(self._commands)
        if not (count or self._is_busy):
            return Pause(0.0, float("inf"))
        # From here on every event wakes this thread, so that one that is not in the log yet is not overlooked.
        self._is_busy = True
        for _ in range(count):
            self._commands.popleft()()
        while self._writable:
            subscriber_id = self._writable.pop()
            for part in self.parts:
                part.on_writable(subscriber_id)
        looked = self._look()
        progress = []
        for part in self.parts:
            self._step_until = self.clock() + _STEP_SECONDS
            progress.append(part.step(looked))
        self._is_busy = any(one.watches for one in progress)
        self._looks = any(one.looks for one in progress)
        if any(one.more for one in progress):
            return _SHARE
        return Pause(_SHARE.minimum, _LOOK_SECONDS if self._looks else float("inf"))

    @property
    def has_time(self) -> bool:
        """Whether the part that is being stepped may begin something more."""
        return self.clock() < self._step_until

    def _tell_parts(self, tell: Callable[[ChainPart], None]) -> None:
        for part in self.parts:
            tell(part)

    def _look(self) -> bool:
        """Read the end of the log. Return whether the chain should be looked at again, too."""
        before = self.index.disconnected
        self.index.update()
        if self.index.disconnected != before:
            self.history.forget()
        now, position = self.clock(), self.index.position
        if position == self._seen and not (self._looks and now - self._looked_at >= _LOOK_SECONDS):
            return False
        self._seen, self._looked_at = position, now
        self.history.forget_tip()
        return True


def ended_before_reply() -> RpcError:
    """Return the error for a subscription that its client has ended, or left, before it began."""
    text = "Server busy: the subscription has ended before it began"
    return RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS})


def chain_is_unreadable(error: Exception) -> RpcError:
    """Return the error for a subscription whose first read has failed."""
    text = f"Server busy: the chain can't be read: {error}"
    return RpcError(JsonRpcCode.SERVER_BUSY, text, {"retry_after_ms": _RETRY_MS})


def _nobody() -> None:
    """Do nothing: no thread steps the feed yet."""
