"""Ownership of the event loop: the right of one thread, the leader, to touch the loop's state.

This is the Leader/Followers pattern (POSA2): the thread that polls is also the one that runs fast handlers, so a fast
call needs no hand-over between threads. Its danger is a handler that blocks the leader. So ownership can be taken away
from a thread, but only at one point: while it is in a handler.

Protocol. Before it runs a task, the leader stores the task and everything its successor needs (`LeaderWork`). When the
task returns, the leader clears `task` under `_lock`. If it was still there, the thread is still the leader. The watchdog,
which sees the same task for too long, clears it under the same lock (`revoke`). From then on the watchdog owns the loop,
until it passes it to an idle worker; the task becomes an ordinary pending call in the thread in which it runs. That
thread learns of it when the task returns, at the latest, or never: `run` then raises `OwnershipLost`, which unwinds the
thread out of the loop without touching the loop's state.

Why this is safe:
1. A thread inside `task.run()` touches no state of the loop. Everything it held is in `work`, and `on_ownership_revoked`
   hands that over before another thread leads.
2. `task` is compared and cleared under `_lock` on both sides, so exactly one of the two threads gets it.
3. A stalled thread is identified by the task object, not by time: if the task has just ended, `revoke` returns None.
"""

from __future__ import annotations

import logging
import threading

import msgspec

from ..protocol.message_parser import MessageEvent
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, leader_only
from .connection import Connection
from .interfaces import Reply, Task
from .pending_call import PendingCall
from .reactor import Reactor

__all__ = ["LeaderWork", "LoopOwnership", "OwnershipLost", "RevokedWork"]

logger = logging.getLogger("dilithion_ws.net")


class OwnershipLost(BaseException):
    """Unwinds a thread that is no longer the leader. Not an Exception, so that no handler of those catches it."""


class LeaderWork(msgspec.Struct, gc=False):
    """The unfinished work of the leader while a handler runs: all that the next leader needs to continue.

    Attributes:
        connection: the client whose message it is.
        events: what was received together with the message.
        index: which of the events the handler is working on.
        output: frames that answer earlier events and were not sent yet.
    """

    connection: Connection
    events: list[MessageEvent]
    index: int
    output: list[bytes]


class RevokedWork(msgspec.Struct):
    """What was taken from a stalled leader: its work, and the pending call that its task has become."""

    work: LeaderWork
    pending: PendingCall


class LoopOwnership:
    """The task that the leader is running, and the way to take the loop away from it.

    Args:
        reactor: what the leader owns.
        watch: set when a task begins while the watchdog sleeps.

    Attributes:
        task: the running task, or None.
        is_watched: whether the watchdog looks for stalls. It stops after a while without tasks.
    """

    __slots__ = ("_lock", "_reactor", "_revoked", "_watch", "_work", "is_watched", "task")

    def __init__(self, reactor: Reactor, watch: WakeFlag) -> None:
        self._reactor = reactor
        self._watch = watch
        self._lock = threading.Lock()  # guards `task` being cleared, and `_revoked`
        self._revoked: dict[int, PendingCall] = {}  # by identity of the task
        self.task: Task[Reply] | None = None
        self._work: LeaderWork | None = None
        self.is_watched = False

    @leader_only
    def run(self, task: Task[Reply], work: LeaderWork) -> object:
        """Run a task in the leading thread. Return what `Task.run` returns.

        Raises:
            OwnershipLost: the task took so long that another thread leads now. Its answer was sent.
        """
        self._work = work
        self.task = task
        if not self.is_watched:
            self.is_watched = True
            self._watch.set()
        try:
            outcome: object = task.run()
        except BaseException:  # a fault of this package, since `run` must not raise; the loop must not be lost to it
            logger.exception("a call raised")
            outcome = task.refuse("internal error")
        with self._lock:
            if self.task is task:
                self.task = None
                return outcome
            pending = self._revoked.pop(id(task))
        pending.finish(outcome)  # type: ignore[arg-type]
        raise OwnershipLost

    @leader_only
    def end(self) -> None:
        """Forget the work of the last task: Python's collector does not see it, and could not free a cycle with it."""
        self._work = None

    @any_thread
    def revoke(self, task: Task[Reply]) -> RevokedWork | None:
        """Take the loop away from the thread that runs this task. Return None if the task has just ended.

        The caller owns the loop from now on, until it passes it to another thread.
        """
        with self._lock:
            if self.task is not task:
                return None
            work = self._work
            assert work is not None
            self.task = None
            reactor = self._reactor
            reactor.leader = threading.get_ident()
            pending = PendingCall(work.connection, task, reactor.mailbox, reactor.limits)
            self._revoked[id(task)] = pending
        return RevokedWork(work, pending)
