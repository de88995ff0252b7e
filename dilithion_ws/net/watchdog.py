"""The thread that detects a leader which a handler holds up, and that executes the shutdown.

It sleeps while no handler runs. Otherwise it compares, every half `leader_stall_timeout`, whether the same task is still
running. A task that runs for `leader_stall_timeout` seconds costs its thread the event loop (see `loop_ownership.py`),
and an idle worker becomes the leader. If no worker is idle, a thread is started in reserve: it runs only methods that
were declared fast, and gives the loop to the first worker that becomes idle.

Why a pair of reads is enough: the watchdog compares the identity of the task in two checks. A leader that runs many short
tasks shows another task each time. Only a task that was seen in both checks can be revoked, and `revoke` compares once
more under the lock. The flag `is_watched` is cleared before the last check of `task`: a task that began just before that
either was seen here, or has seen the cleared flag and sets the wake flag.
"""

from __future__ import annotations

import logging
import threading

from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, owner_only
from .event_loop import EventLoop, LeadEnd
from .interfaces import Reply, Task
from .shutdown import ShutdownPhase, ShutdownSequence
from .worker_pool import WorkerPool

__all__ = ["Watchdog"]

logger = logging.getLogger("dilithion_ws.net")

_IDLE_CHECKS = 50
"""Consecutive checks without a task after which the watchdog sleeps."""


class Watchdog:
    """Watches the leader.

    Args:
        loop: what the leader runs.
        pool: has the workers that can lead.
        shutdown: the steps to stop the server.
        wake: set when a task begins while the watchdog sleeps, and when the server must stop.
    """

    def __init__(self, loop: EventLoop, pool: WorkerPool, shutdown: ShutdownSequence, wake: WakeFlag) -> None:
        self._loop = loop
        self._pool = pool
        self._shutdown = shutdown
        self._wake = wake
        self._clock = loop.reactor.clock
        self._calls = loop.reactor.limits.calls
        self._seen: Task[Reply] | None = None
        self._seen_at = 0.0
        self._idle_checks = 0
        self._reserve: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-watchdog", daemon=True)

    @owner_only
    def start(self) -> None:
        """Start the thread, then the leader. If the thread cannot be started, nothing runs."""
        self._thread.start()
        self._pool.start_leader(self._lead)

    @any_thread
    def request_stop(self, timeout: float) -> None:
        """Stop the server within `timeout` seconds. Takes no lock: safe in a signal handler."""
        self._shutdown.request(timeout)
        self._wake.set()

    @any_thread
    def is_reserve(self) -> bool:
        """Return whether the calling thread leads in reserve."""
        return threading.current_thread() in self._reserve

    def _run(self) -> None:
        while self._shutdown.phase is not ShutdownPhase.ENDED:
            self._wake.wait(self._poll_interval())
            try:
                self._check_for_stall()
                self._shutdown.advance()
            except Exception:
                logger.exception("the watchdog met a fault; going on")

    def _poll_interval(self) -> float | None:
        if self._loop.ownership.is_watched or self._shutdown.phase is not ShutdownPhase.RUNNING:
            return self._calls.leader_stall_timeout / 2
        return None

    def _check_for_stall(self) -> None:
        """Revoke the loop from a leader whose task has been running for too long."""
        ownership = self._loop.ownership
        task, now = ownership.task, self._clock()
        if task is not None:
            ownership.is_watched = True
        self._idle_checks = 0 if task is not None else self._idle_checks + 1
        if self._idle_checks >= _IDLE_CHECKS:
            self._idle_checks = 0
            ownership.is_watched = False
            ownership.is_watched = ownership.task is not None
        if task is None or task is not self._seen:
            self._seen, self._seen_at = task, now
        elif now - self._seen_at >= self._calls.leader_stall_timeout:
            self._seen = None
            if self._loop.seize(task):
                self._promote_new_leader()

    def _promote_new_leader(self) -> None:
        """Pass the loop, which this thread owns at the moment, to a worker or to a thread in reserve."""
        if not self._pool.start_leader(self._lead):
            logger.warning(
                "no worker is left to lead (%d workers): only methods declared fast run", self._calls.workers
            )
            thread = threading.Thread(target=self._run_reserve_leader, name="dilithion-ws-reserve", daemon=True)
            self._reserve = [old for old in self._reserve if old.is_alive()] + [thread]
            thread.start()

    def _lead(self) -> None:
        """Lead, in a worker."""
        if self._loop.run_until() is LeadEnd.STOPPED:
            self._on_loop_ended()

    def _run_reserve_leader(self) -> None:
        """Lead until a worker is idle. A method declared fast that stalls here is never treated as fast again."""
        reactor = self._loop.reactor
        while True:
            reactor.fast_calls_only = self._pool.wake_when_idle = True
            end = self._loop.run_until(lambda: self._pool.idle > 0)
            if end is LeadEnd.REVOKED:
                return  # it stalled, and the watchdog has found another leader
            reactor.fast_calls_only = self._pool.wake_when_idle = False
            if end is LeadEnd.STOPPED:
                self._on_loop_ended()
                return
            if self._pool.start_leader(self._lead):
                return

    def _on_loop_ended(self) -> None:
        self._shutdown.leader_has_ended = True
        self._wake.set()
