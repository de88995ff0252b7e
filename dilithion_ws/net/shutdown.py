"""Stop a server in order: accept no more, let calls end, close connections, stop threads.

    RUNNING    until `request`
    DRAINING   the acceptor is stopped; idle connections are closed with 1001, the others when their calls are answered
    ENDING     all connections are closed or the time is over; the loop ends
    ENDED      all threads have ended, and all descriptors are closed

`request` only stores a deadline, so it is safe in a signal handler. Everything else happens in the watchdog's thread, by
`advance`. One deadline holds for all phases; a second request may only shorten it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from ..util.clock import Deadline
from ..util.sync import Latch
from ..util.thread_contracts import any_thread, owner_only
from .acceptor import Acceptor
from .delivery_threads import DeliveryThreads
from .event_loop import EventLoop
from .worker_pool import WorkerPool

__all__ = ["Resource", "ShutdownPhase", "ShutdownSequence"]

logger = logging.getLogger("dilithion_ws.net")

_FORCE_SHARE = 0.1
"""Part of the time that is kept for closing by force, at most `_MAX_FORCE_SECONDS`."""

_MAX_FORCE_SECONDS = 0.2

_MIN_JOIN_SECONDS = 0.1
"""Time that idle threads get to end, even if the deadline has passed."""


class ShutdownPhase(Enum):
    """See the table above."""

    RUNNING = 1
    DRAINING = 2
    ENDING = 3
    ENDED = 4


class Resource(Protocol):
    """Something that is stopped after the server: callbacks, the event store, files."""

    def stop(self, deadline: Deadline) -> None:
        """Stop, if possible before the deadline."""


class ShutdownSequence:
    """Takes a server down.

    Args:
        loop: ends last of the threads that serve clients.
        pool: has the threads.
        acceptor: is stopped first.
        delivery: delivers events.
        resources: are stopped last, in this order.

    Attributes:
        phase: how far it is.
        leader_has_ended: set by the thread that ran the loop last.
        ended: open once everything has stopped.
    """

    def __init__(
        self,
        loop: EventLoop,
        pool: WorkerPool,
        acceptor: Acceptor,
        delivery: DeliveryThreads,
        resources: Sequence[Resource],
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._acceptor = acceptor
        self._delivery = delivery
        self._resources = resources
        self._clock = loop.reactor.clock
        self._deadline: Deadline | None = None
        self._drained_by: Deadline | None = None
        self.phase = ShutdownPhase.RUNNING
        self.leader_has_ended = False
        self.ended = Latch()

    @any_thread
    def request(self, timeout: float) -> None:
        """Stop everything within `timeout` seconds. Takes no lock: safe in a signal handler."""
        if self._deadline is None or timeout < self._deadline.remaining():
            self._deadline = Deadline(self._clock, timeout)

    @owner_only
    def advance(self) -> None:
        """Take the next step, if it is due. Called by the watchdog."""
        deadline, loop = self._deadline, self._loop
        if deadline is None:
            return
        registry = loop.reactor.registry
        if self.phase is ShutdownPhase.RUNNING:
            self.phase = ShutdownPhase.DRAINING
            kept = min(_MAX_FORCE_SECONDS, deadline.remaining() * _FORCE_SHARE)
            self._drained_by = Deadline(self._clock, deadline.remaining() - kept)
            loop.reactor.mailbox.post(lambda leader: leader.closer.start_shutdown())
            self._acceptor.stop(deadline)
        elif self.phase is ShutdownPhase.DRAINING:
            assert self._drained_by is not None
            if deadline.at < self._drained_by.at:  # a second request has shortened the time
                self._drained_by = deadline
            if self._drained_by.expired or (registry.is_stopping and not registry.all()):
                self.phase = ShutdownPhase.ENDING
                loop.reactor.mailbox.post(lambda leader: loop.end())
        elif self.phase is ShutdownPhase.ENDING and self.leader_has_ended:
            self._finish(deadline)

    def _finish(self, deadline: Deadline) -> None:
        self._delivery.stop()
        stuck = self._pool.shutdown(Deadline(self._clock, max(deadline.remaining(), _MIN_JOIN_SECONDS)))
        if stuck:
            logger.warning("%d handlers did not return by the deadline of stop(); their threads are left", stuck)
        self._loop.reactor.close()
        for resource in self._resources:
            resource.stop(deadline)
        self.phase = ShutdownPhase.ENDED
        self.ended.open()
