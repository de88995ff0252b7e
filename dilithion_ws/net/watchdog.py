"""The thread that watches over the leader, and that takes the server down in order.

It sleeps while no handler runs. While handlers do, it looks every half `stall_after` whether the same call is still
going on; a call that keeps the leader loses it the lead (see `lead.py`), which goes to a free worker. When no worker is
free, a thread is started in reserve: it runs only methods that were declared fast, and gives the lead to the first worker
that comes back.

stop() must be safe in a signal handler, so it only leaves a note and rings; everything else is done here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from enum import Enum

from ..config.limits import Limits
from ..util.clock import Clock, Deadline
from ..util.sync import Latch, WakeFlag
from .acceptor import Acceptor
from .delivery_threads import DeliveryThreads
from .event_loop import EventLoop
from .interfaces import Call
from .worker_pool import WorkerPool

__all__ = ["Watchdog"]

logger = logging.getLogger("dilithion_ws.net")

_QUIET_LOOKS = 50
"""Looks without a call in sight before the supervisor goes to sleep."""

_FORCE_SHARE = 0.1
"""Part of the time for stopping that is kept for closing by force, but no more than 0.2 s."""


_JOIN_SECONDS = 0.1
"""Idle threads get this long to end, even where the deadline has passed."""


class ShutdownPhase(Enum):
    """RUNNING → DRAINING → ENDING → ENDED; there is no way back."""

    RUNNING = 1
    DRAINING = 2
    ENDING = 3
    ENDED = 4


class Watchdog:
    """Watches, and stops.

    Args:
        limits: times.
        clock: seconds that never go backwards.
        loop, pool, acceptor, pumps: what is watched and stopped.
        bell: rung when there is something to look at.
        at_end: called last, when all else has stopped.

    Attributes:
        ended: open once everything has stopped.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        loop: EventLoop,
        pool: WorkerPool,
        acceptor: Acceptor,
        pumps: DeliveryThreads,
        bell: WakeFlag,
        at_end: Callable[[Deadline], None],
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._loop = loop
        self._pool = pool
        self._acceptor = acceptor
        self._pumps = pumps
        self._bell = bell
        self._at_end = at_end
        self._seen: Call | None = None
        self._seen_at = 0.0
        self._quiet = 0
        self._phase = ShutdownPhase.RUNNING
        self._leader_gone = False
        self._reserve: list[threading.Thread] = []
        self._deadline: Deadline | None = None
        self._drained_by: Deadline | None = None
        self.ended = Latch()
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-supervisor", daemon=True)

    def start(self) -> None:
        """Starts the watch, then the leader: should the first fail, nothing runs."""
        self._thread.start()
        self._pool.lead(self._lead)

    def request_stop(self, timeout: float) -> None:
        """Has everything stopped within `timeout` seconds. Takes no lock: safe in a signal handler."""
        if self._deadline is None or timeout < self._deadline.remaining():
            self._deadline = Deadline(self._clock, timeout)
        self._bell.ring()

    def _lead(self) -> None:
        """A worker's job: leads until the lead is lost or the loop has ended."""
        if self._loop.lead():
            self._leader_has_ended()

    def _leader_has_ended(self) -> None:
        self._leader_gone = True
        self._bell.ring()

    def is_reserve(self) -> bool:
        """Whether the calling thread leads because no worker could."""
        return threading.current_thread() in self._reserve

    def _run(self) -> None:
        while self._phase is not ShutdownPhase.ENDED:
            self._bell.wait(self._patience())
            try:
                self._look()
                self._advance()
            except Exception:
                logger.exception("the supervisor met a fault; going on")

    def _patience(self) -> float | None:
        if self._loop.current.watched or self._phase is not ShutdownPhase.RUNNING:
            return self._limits.calls.stall_after / 2
        return None

    # Watching

    def _look(self) -> None:
        """Whether the call that is running is the one that was running before."""
        current = self._loop.current
        call, now = current.call, self._clock()
        if call is not None:
            current.watched = True
        self._quiet = 0 if call is not None else self._quiet + 1
        if self._quiet >= _QUIET_LOOKS:
            self._quiet = 0
            current.watched = False
            current.watched = current.call is not None  # a call that began just before has seen a watcher
        if call is None or call is not self._seen:
            self._seen, self._seen_at = call, now
        elif now - self._seen_at >= self._limits.calls.stall_after:
            self._seen = None
            if self._loop.take_over(call):
                self._pass_on()

    def _pass_on(self) -> None:
        """Gives the lead, which is the supervisor's at this moment, to a worker, or to a thread in reserve."""
        if not self._pool.lead(self._lead):
            logger.warning("all %d workers are in handlers: only methods declared fast run", self._limits.calls.workers)
            thread = threading.Thread(target=self._lead_in_reserve, name="dilithion-ws-reserve", daemon=True)
            self._reserve = [old for old in self._reserve if old.is_alive()] + [thread]
            thread.start()

    def _lead_in_reserve(self) -> None:
        """Leads until a worker is free. A method declared fast that stalls here is never again run like one."""
        self._loop.restrict(True)
        while True:
            outcome = self._loop.lead(lambda: self._pool.free > 0)
            if outcome is None:
                return  # a stall: the supervisor has found another leader
            if outcome:
                self._leader_has_ended()
                return
            self._loop.restrict(False)
            if self._pool.lead(self._lead):
                return
            self._loop.restrict(True)

    # Stopping

    def _advance(self) -> None:
        """Takes the next step on the way down, once its time has come."""
        deadline, loop = self._deadline, self._loop
        if deadline is None:
            return
        if self._phase is ShutdownPhase.RUNNING:
            self._phase = ShutdownPhase.DRAINING
            kept = min(0.2, deadline.remaining() * _FORCE_SHARE)
            self._drained_by = Deadline(self._clock, deadline.remaining() - kept)
            loop.post(loop.closing.stop)
            self._acceptor.stop(deadline)
        elif self._phase is ShutdownPhase.DRAINING:
            assert self._drained_by is not None
            if deadline.at < self._drained_by.at:  # stop() was called again, with less patience
                self._drained_by = deadline
            if self._drained_by.expired or (loop.hub.stopping and not loop.hub.by_fd):
                self._phase = ShutdownPhase.ENDING
                loop.post(loop.end)
        elif self._phase is ShutdownPhase.ENDING and self._leader_gone:
            self._pumps.stop()
            stuck = self._pool.shutdown(Deadline(self._clock, max(deadline.remaining(), _JOIN_SECONDS)))
            if stuck:
                logger.warning("%d handlers did not return by the deadline of stop(); their threads are left", stuck)
            loop.close()
            self._at_end(deadline)
            self._phase = ShutdownPhase.ENDED
            self.ended.open()
