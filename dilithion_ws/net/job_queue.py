"""A bounded queue of jobs in which higher priorities go first, and in which no tenant keeps the others out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["PRIORITIES", "JobQueue", "QueuedJob"]

PRIORITIES = 3


def _do_nothing() -> None: ...


class QueuedJob(NamedTuple):
    """A job in a queue.

    Attributes:
        run: does the work.
        priority: 0 to 2. Higher ones go first, and evict lower ones from a full queue.
        tenant: whose share of the queue it counts towards, or None.
        on_evicted: called if another job takes its place.
        is_brief: whether it ends soon, so that it may run in a thread that is kept for other tenants.
    """

    run: Callable[[], None]
    priority: int = 0
    tenant: Hashable = None
    on_evicted: Callable[[], None] = _do_nothing
    is_brief: bool = False


class JobQueue:
    """Not thread-safe: its owner holds a lock.

    Args:
        capacity: jobs that it holds.
        max_per_tenant: jobs that one tenant keeps in a full queue if others arrive; default: all.
    """

    __slots__ = ("_by_priority", "_capacity", "_max_per_tenant", "_tenants")

    def __init__(self, capacity: int, max_per_tenant: int | None = None) -> None:
        self._capacity = capacity
        self._max_per_tenant = capacity if max_per_tenant is None else max_per_tenant
        self._by_priority: tuple[deque[QueuedJob], ...] = tuple(deque() for _ in range(PRIORITIES))
        self._tenants: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._by_priority))

    def put(self, job: QueuedJob) -> QueuedJob | None:
        """Add a job. Return the job that is rejected for lack of space, which may be this one, or None."""
        evicted = None
        if len(self) >= self._capacity:
            evicted = self._lower_priority_victim(job) or self._over_quota_victim(job)
            if evicted is None:
                return job
            self._by_priority[evicted.priority].remove(evicted)
            self._uncount(evicted)
        self._by_priority[job.priority].append(job)
        if job.tenant is not None:
            self._tenants[job.tenant] += 1
        return evicted

    def _lower_priority_victim(self, job: QueuedJob) -> QueuedJob | None:
        """Return the newest job of the lowest priority below `job.priority`, or None."""
        jobs = next((jobs for jobs in self._by_priority[: job.priority] if jobs), None)
        return jobs[-1] if jobs else None

    def _over_quota_victim(self, job: QueuedJob) -> QueuedJob | None:
        """Return the newest job of the tenant with the most jobs, if it is over quota and `job.tenant` is not."""
        if job.tenant is None or not self._tenants or self._tenants[job.tenant] >= self._max_per_tenant:
            return None
        largest, count = self._tenants.most_common(1)[0]
        if count <= self._max_per_tenant:
            return None
        return next(one for jobs in self._by_priority for one in reversed(jobs) if one.tenant == largest)

    def pop(self, may_run: Callable[[QueuedJob], bool]) -> QueuedJob | None:
        """Remove and return the next job that may run now, or None if there is none."""
        for jobs in reversed(self._by_priority):
            for job in jobs:
                if may_run(job):
                    jobs.remove(job)
                    self._uncount(job)
                    return job
        return None

    def remove(self, run: Callable[[], None]) -> None:
        """Remove the job with this function, if it is still in the queue."""
        for jobs in self._by_priority:
            for job in jobs:
                if job.run == run:
                    jobs.remove(job)
                    self._uncount(job)
                    return

    def clear(self) -> None:
        """Remove all jobs."""
        for jobs in self._by_priority:
            jobs.clear()
        self._tenants.clear()

    def _uncount(self, job: QueuedJob) -> None:
        if job.tenant is not None:
            self._tenants[job.tenant] -= 1
            if not self._tenants[job.tenant]:
                del self._tenants[job.tenant]
