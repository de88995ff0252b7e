"""Hand tasks to the pool, each to its job class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..config.limits import Limits, limit_reached
from ..session import Session
from ..util.enums import TaskKind
from ..util.ip import network_of
from ..util.thread_contracts import any_thread
from .interfaces import Service
from .job_queue import QueuedJob
from .worker_pool import WorkerPool

__all__ = ["CallScheduler", "Work"]


class Work(Protocol):
    """Something that waits for a worker: a `PendingCall` or a `PendingRequest`."""

    @property
    def kind(self) -> TaskKind: ...

    @property
    def session(self) -> Session: ...

    def run(self) -> None: ...

    def evict(self, reason: str) -> None: ...


class CallScheduler:
    """Chooses the queue and the priority of a task.

    Args:
        pool: the workers.
        service: knows the priority of logins.
        limits: for messages.
    """

    def __init__(self, pool: WorkerPool, service: Service, limits: Limits) -> None:
        self._pool = pool
        self._service = service
        self._queue_full = f"the queue is full; {limit_reached(limits, 'queue')}"
        self._login_queue_full = f"the queue is full; {limit_reached(limits, 'login_queue')}"

    @any_thread
    def has_idle_worker(self) -> bool:
        """Return whether a worker could take over the lead, if a call held up the leader."""
        return self._pool.idle > 0

    @any_thread
    def submit(self, work: Work) -> str | None:
        """Run a task in the pool, or queue it. If the queue is full, return why it cannot be run, otherwise None."""
        classes, session = self._pool.classes, work.session
        # Local programs without users have one address, and limits by address do not apply to them.
        tenant = session.user or (session.rate_limit_key if session.is_rate_limited else None)
        kind = work.kind
        if kind is not TaskKind.LOGIN:
            job_class = classes.requests if kind is TaskKind.REQUEST else classes.calls
            reason = self._queue_full
            job = QueuedJob(work.run, 0, tenant, lambda: work.evict(reason), kind is TaskKind.BRIEF_CALL)
            return None if self._pool.submit(job, job_class) else reason
        reason = self._login_queue_full
        job = QueuedJob(
            work.run,
            self._service.login_priority(session),
            network_of(session.address[0]),
            lambda: work.evict(reason),
        )
        return None if self._pool.submit(job, classes.logins) else reason

    @any_thread
    def submit_handshake_step(self, run: Callable[[], None]) -> bool:
        """Run a step of a TLS handshake in the pool, or queue it. Return False if the queue is full."""
        return self._pool.submit(QueuedJob(run), self._pool.classes.handshakes)

    @any_thread
    def cancel(self, run: Callable[[], None]) -> None:
        """Remove a task from its queue, if it is still there."""
        self._pool.cancel(run)

    @any_thread
    def give_up(self, run: Callable[[], None]) -> None:
        """Replace the thread of a task whose client has got its answer without it, if the task still runs."""
        self._pool.give_up(run)
