"""The pool of threads: a ThreadPoolExecutor, and the decision which of its threads does what.

One thread leads: it runs the event loop. One more is left idle: it is the spare that takes over the lead if a handler
holds up the leader. All others belong to the job classes: slow calls, logins, TLS handshakes, and requests. A class never
has more jobs running than it has threads, so none takes the threads of another (the bulkhead pattern); further jobs
wait in its bounded queue, and beyond that they are refused.

Within a class, one tenant (a user, or the address of a client without one) runs no more than a share of the jobs, so that
a few threads always serve the others. Brief jobs may use those threads while no other tenant wants them: they are free
again soon, and the jobs of others go first then.

A thread cannot be stopped. So a job whose client got its answer without it, at the deadline, may occupy its thread for
ever. `give_up` takes such a job off the books of its class, which gets another thread for it, up to a bound.

The threads are daemons, and a stuck one is removed from the executor's list at `shutdown`, so a handler that never
returns cannot prevent the process from exiting.
"""

from __future__ import annotations

import concurrent.futures.thread as executor_module
import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ..util.clock import Deadline
from ..util.thread_contracts import any_thread, owner_only, requires
from .job_queue import JobQueue, QueuedJob
from .poller import Waker

__all__ = ["JobClass", "JobClasses", "WorkerPool"]

logger = logging.getLogger("dilithion_ws.net")

_LEADER_AND_SPARE = 2


class JobClass:
    """A kind of jobs, with threads of its own. Guarded by the pool's lock.

    Args:
        name: for statistics.
        limit: threads, which is how many jobs of this kind may run at the same time.
        queue: where further ones wait.
        max_per_tenant: jobs of one tenant that may run at the same time; default: all.

    Attributes:
        running: jobs that run.
    """

    __slots__ = ("_max_per_tenant", "_tenants", "limit", "name", "queue", "running")

    def __init__(self, name: str, limit: int, queue: JobQueue, max_per_tenant: int | None = None) -> None:
        self.name = name
        self.limit = limit
        self.queue = queue
        self.running = 0
        self._max_per_tenant = limit if max_per_tenant is None else max_per_tenant
        self._tenants: Counter[Hashable] = Counter()

    def may_run(self, job: QueuedJob) -> bool:
        """Return whether a job may run now."""
        return self.running < self.limit and (job.is_brief or self._has_share(job))

    def _has_share(self, job: QueuedJob) -> bool:
        """Return whether the tenant of a job runs less than its share."""
        return job.tenant is None or self._tenants[job.tenant] < self._max_per_tenant

    def take_next(self) -> QueuedJob | None:
        """Remove the next job that may run now from the queue: one within a tenant's share, otherwise a brief one."""
        if self.running >= self.limit or not self.queue:
            return None
        return self.queue.pop(self._has_share) or self.queue.pop(lambda job: job.is_brief)

    def begin(self, tenant: Hashable) -> None:
        """Count a job that runs from now on."""
        self.running += 1
        if tenant is not None:
            self._tenants[tenant] += 1

    def end(self, tenant: Hashable) -> None:
        """Count a job that has ended."""
        self.running -= 1
        if tenant is not None:
            self._tenants[tenant] -= 1
            if not self._tenants[tenant]:
                del self._tenants[tenant]


class JobClasses(msgspec.Struct, frozen=True):
    """The job classes of a pool.

    Attributes:
        calls: slow calls.
        logins: verifications of passwords.
        handshakes: steps of TLS handshakes.
        requests: what the server itself works on for long: HTTP requests, large messages.
    """

    calls: JobClass
    logins: JobClass
    handshakes: JobClass
    requests: JobClass

    def all(self) -> tuple[JobClass, ...]:
        """Return all of them."""
        return self.calls, self.logins, self.handshakes, self.requests


class WorkerPool:
    """Runs the leader, jobs of the classes, and dedicated jobs.

    Args:
        classes: the job classes; the pool takes turns between their queues.
        dedicated: further threads, for `run_dedicated`.
        waker: woken when a worker becomes idle, while `wake_when_idle` is true.
        max_overdue: jobs that were given up and still run, for which there are further threads.

    Attributes:
        classes: the job classes.
        idle: workers without a job.
        overdue: jobs that were given up and still run.
        wake_when_idle: set by a thread that leads in reserve, which waits for a worker to take over.
    """

    def __init__(self, classes: JobClasses, dedicated: int, waker: Waker, max_overdue: int = 0) -> None:
        self.classes = classes
        self._lock = threading.Lock()  # guards `idle`, `overdue`, `_turns`, `_running` and the job classes
        self._turns = list(classes.all())
        self._running: dict[Callable[[], None], tuple[JobClass, Hashable]] = {}
        self._waker = waker
        self._max_overdue = max_overdue
        self.idle = _LEADER_AND_SPARE + sum(job_class.limit for job_class in self._turns)
        self.overdue = 0
        self.wake_when_idle = False
        self._thread_count = self.idle + dedicated
        self._executor = ThreadPoolExecutor(self._thread_count + max_overdue, thread_name_prefix="dilithion-ws")
        self._threads: set[threading.Thread] = set()

    @owner_only
    def start(self) -> None:
        """Start all threads now, from a daemon thread, since threads inherit that property from their creator.

        Raises:
            RuntimeError: the system cannot create so many threads.
        """
        failures: list[BaseException] = []
        starter = threading.Thread(target=self._spawn, args=(failures,), name="dilithion-ws-start", daemon=True)
        starter.start()
        starter.join()
        if failures:
            raise RuntimeError(f"can't start {self._thread_count} threads: {failures[0]}")

    def _spawn(self, failures: list[BaseException]) -> None:
        """Submit as many jobs as there are threads, none of which returns before all have begun."""
        all_started = threading.Barrier(self._thread_count)

        def register() -> None:
            self._threads.add(threading.current_thread())
            all_started.wait()

        try:
            for future in [self._executor.submit(register) for _ in range(self._thread_count)]:
                future.result()
        except BaseException as failure:
            failures.append(failure)
            all_started.abort()

    @any_thread
    def is_worker(self) -> bool:
        """Return whether the calling thread belongs to the pool."""
        return threading.current_thread() in self._threads

    @any_thread
    def start_leader(self, run: Callable[[], None]) -> bool:
        """Make an idle worker the leader. Return False if no worker is idle."""
        with self._lock:
            if self.idle < 1:
                return False
            self.idle -= 1
        self._executor.submit(self._work, run, False)
        return True

    @any_thread
    def submit(self, job: QueuedJob, job_class: JobClass) -> bool:
        """Run a job, or queue it until it may run. Return False if the queue has no place for it."""
        evicted = None
        with self._lock:
            must_wait = self.idle < 2 or not job_class.may_run(job)
            if must_wait:
                evicted = job_class.queue.put(job)
            else:
                self.idle -= 1
                self._begin(job, job_class)
        if not must_wait:
            self._executor.submit(self._work, job.run, True)
        elif evicted is not None and evicted is not job:
            evicted.on_evicted()
        return evicted is not job

    @any_thread
    def run_dedicated(self, run: Callable[[], None]) -> None:
        """Run a job for as long as it takes, on a thread that is not one of the workers."""
        self._executor.submit(_run_logged, run)

    @any_thread
    def cancel(self, run: Callable[[], None]) -> None:
        """Remove a job from its queue, if it is still there."""
        with self._lock:
            for job_class in self._turns:
                job_class.queue.remove(run)

    @any_thread
    def give_up(self, run: Callable[[], None]) -> None:
        """Do not count a job any more that still runs, and replace its thread."""
        with self._lock:
            if self.overdue >= self._max_overdue or not self._end(run):
                return
            self.overdue += 1
            job = self._take_next()
            if job is None:
                self.idle += 1
                return
        self._executor.submit(self._work, job.run, True)

    def _work(self, run: Callable[[], None] | None, is_job: bool) -> None:
        """Run the leader or a job, and then queued jobs as long as a spare worker remains."""
        self._threads.add(threading.current_thread())  # it may be one that replaces another
        while run is not None:
            _run_logged(run)
            with self._lock:
                if is_job and not self._end(run):
                    self.overdue -= 1  # it was given up, and another thread has taken the place of this one
                    return
                job = self._take_next()
                if job is None:
                    self.idle += 1
                is_job = True
                run = None if job is None else job.run
        if self.wake_when_idle:
            self._waker.wake()

    @requires("_lock")
    def _begin(self, job: QueuedJob, job_class: JobClass) -> None:
        job_class.begin(job.tenant)
        self._running[job.run] = job_class, job.tenant

    @requires("_lock")
    def _end(self, run: Callable[[], None]) -> bool:
        """Count a job that has ended. Return False if it was not counted any more."""
        job_class, tenant = self._running.pop(run, (None, None))
        if job_class is not None:
            job_class.end(tenant)
        return job_class is not None

    @requires("_lock")
    def _take_next(self) -> QueuedJob | None:
        """Begin the next queued job, for a worker that has nothing to do. Return None if none may run now."""
        if self.idle < 1:
            return None
        for job_class in self._turns:
            job = job_class.take_next()
            if job is not None:
                self._turns.remove(job_class)
                self._turns.append(job_class)  # the other classes go first next time, so none starves
                self._begin(job, job_class)
                return job
        return None

    @owner_only
    def shutdown(self, deadline: Deadline) -> int:
        """Stop the threads. Return how many were still in a handler at the deadline."""
        with self._lock:
            for job_class in self._turns:
                job_class.queue.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        stuck = 0
        for thread in list(self._threads):
            thread.join(deadline.remaining())
            if thread.is_alive():
                stuck += 1
                _detach_at_exit(thread)
        return stuck


def _run_logged(run: Callable[[], None]) -> None:
    try:
        run()
    except BaseException:  # the executor would hide it in a Future that is never read
        logger.exception("a job of the pool failed")


def _detach_at_exit(thread: threading.Thread) -> None:
    """Prevent the interpreter from joining a thread at exit.

    The executor's module joins all threads in this private dictionary. On a Python without it, exit waits for stuck
    handlers, as it does for every ThreadPoolExecutor.
    """
    joined_at_exit = getattr(executor_module, "_threads_queues", None)
    if joined_at_exit is not None:
        joined_at_exit.pop(thread, None)
