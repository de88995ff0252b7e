"""The event loop: poll the sockets, handle those that are ready, then timers, calls past their deadline, and commands.

One thread at a time runs it. `loop_ownership.py` explains how the loop moves from one thread to another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from enum import Enum
from threading import get_ident

from ..util.thread_contracts import any_thread, leader_only
from .connection_handler import ConnectionHandler
from .interfaces import Reply, Task
from .loop_ownership import LoopOwnership, OwnershipLost
from .poller import ENDED, READ
from .reactor import Reactor

__all__ = ["EventLoop", "LeadEnd"]

logger = logging.getLogger("dilithion_ws.net")

_RESERVE_POLL_SECONDS = 0.05
"""Timeout of a poll while the leader waits for a condition: a thread in reserve, for an idle worker."""


class LeadEnd(Enum):
    """Why a thread no longer runs the loop."""

    STOPPED = "stopped"
    """The loop has ended; no thread runs it any more."""
    YIELDED = "yielded"
    """The condition of `run_until` is true; the calling thread still owns the loop and must pass it on."""
    REVOKED = "revoked"
    """Another thread has taken over the loop."""


class EventLoop:
    """What the leader runs.

    Args:
        reactor: the connections.
        handler: handles them.
        ownership: the task that the leader is running.
    """

    def __init__(self, reactor: Reactor, handler: ConnectionHandler, ownership: LoopOwnership) -> None:
        self.reactor = reactor
        self.handler = handler
        self.ownership = ownership
        self._reactor = reactor
        self._has_ended = False

    @any_thread
    def run_until(self, condition: Callable[[], bool] | None = None) -> LeadEnd:
        """Lead, until the loop has ended, another thread takes over, or a condition is true."""
        reactor = self.reactor
        reactor.leader = get_ident()
        max_timeout = math.inf if condition is None else _RESERVE_POLL_SECONDS
        try:
            while not self._has_ended:
                if condition is not None and condition():
                    return LeadEnd.YIELDED
                try:
                    events = self._poll(max_timeout)
                    self.run_once(events, reactor.clock())
                except Exception:
                    logger.exception("a turn of the loop failed; going on")
        except OwnershipLost:
            return LeadEnd.REVOKED
        reactor.leader = None
        return LeadEnd.STOPPED

    def _poll(self, max_timeout: float) -> list[tuple[int, int]]:
        """Block until a socket is ready, a timer is due or a command was posted."""
        reactor, mailbox = self.reactor, self.reactor.mailbox
        mailbox.is_polling = True  # a command that is posted from now on wakes the poll
        timeout = 0.0 if mailbox.commands or reactor.unpolled or reactor.waiting else reactor.timeout()
        if timeout is None or timeout > max_timeout:
            timeout = None if max_timeout == math.inf else max_timeout
        try:
            return reactor.poller.poll(timeout)
        finally:
            mailbox.is_polling = False

    @leader_only
    def run_once(self, events: list[tuple[int, int]], now: float) -> None:
        """Execute one turn of the loop. Tests call it directly, with a clock of their own and without threads.

        Args:
            events: ready descriptors and their masks, as the poller returns them.
            now: the present time.

        Raises:
            OwnershipLost: another thread has taken over the loop while a handler ran.
        """
        reactor, on_ready = self.reactor, self.handler.on_ready
        reactor.now = now
        by_fd, mailbox = reactor.by_fd, reactor.mailbox
        answers, clock = self.handler.messages.answers, reactor.clock
        for fd, mask in events:
            connection = by_fd.get(fd)
            if connection is not None:
                if connection.is_admitted:
                    on_ready(connection, mask)
                    if answers.waiting and clock() >= answers.due:
                        answers.send()
                else:
                    reactor.waiting[connection] = reactor.waiting.get(connection, 0) | mask
            elif fd == mailbox.waker.fd:
                mailbox.waker.drain()
        if answers.waiting:  # answers leave after each stage, in none of which a connection comes twice
            answers.send()
        if reactor.unpolled:
            self._read_unpolled_bytes()
            answers.send()
        if reactor.waiting:
            self._serve_unadmitted()
            answers.send()
        for at, due in reactor.timers.pop_due(now):
            self.handler.on_timer(due, at)
        if reactor.calls.timeouts:
            self.handler.messages.expire_calls()
        if mailbox.commands:
            self._execute_commands()

    def _read_unpolled_bytes(self) -> None:
        """Read what is held already. One connection at a time, since each may cost this thread the loop."""
        unpolled = self.reactor.unpolled
        for _ in range(len(unpolled)):
            connection = next(iter(unpolled))
            del unpolled[connection]
            if not (connection.interest & READ and connection.holds_bytes):
                continue
            if connection.is_admitted:
                self.handler.on_ready(connection, READ)
                answers = self.handler.messages.answers
                if answers.waiting and self.reactor.clock() >= answers.due:
                    answers.send()
            else:
                waiting = self.reactor.waiting
                waiting[connection] = waiting.get(connection, 0) | READ

    def _serve_unadmitted(self) -> None:
        """Serve a few of the connections that have yet to log in, so that many of them delay no admitted one."""
        waiting = self.reactor.waiting
        for _ in range(min(len(waiting), self.reactor.limits.logins.unauthenticated_per_turn)):
            connection = next(iter(waiting))
            mask = waiting.pop(connection) & (connection.interest | ENDED)
            if mask and not connection.is_closed:  # it may have been paused or closed since it was ready
                self.handler.on_ready(connection, mask)

    def _execute_commands(self) -> None:
        """Execute the commands that were posted. Those that they post themselves wait for the next turn."""
        commands = self.reactor.mailbox.commands
        for _ in range(len(commands)):
            try:
                commands.popleft()(self.handler)
            except Exception:
                logger.exception("a command to the loop failed")

    @any_thread
    def seize(self, task: Task[Reply]) -> bool:
        """Take the loop away from a leader that a task holds up.

        Returns:
            True if the calling thread owns the loop now, and must pass it on; False if the task has just ended.
        """
        revoked = self.ownership.revoke(task)
        if revoked is None:
            return False
        self.handler.messages.on_ownership_revoked(revoked)
        return True

    @leader_only
    def end(self) -> None:
        """Close all connections, and end the loop after this turn."""
        self.handler.closer.abort_all()
        self.handler.messages.abandon_calls()
        self.ownership.end()
        self._has_ended = True
