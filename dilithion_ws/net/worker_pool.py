"""The worker threads: a ThreadPoolExecutor, and the accounts of which workers are idle.

Of N workers one leads. The last idle one never gets a slow call: it is the spare that takes over the lead if a handler
holds up the leader. So at most N - 2 slow calls run at the same time; further ones wait in a bounded queue, and beyond it
they are refused. Logins and TLS handshakes are job classes of their own, each with a narrower limit and its own queue
(the bulkhead pattern), so a flood of them takes no worker from calls.

The threads are daemons, and a stuck one is removed from the executor's list at `shutdown`, so a handler that never
returns cannot prevent the process from exiting.
"""

from __future__ import annotations

import concurrent.futures.thread as executor_module
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ..util.clock import Deadline
from ..util.thread_contracts import any_thread, owner_only, requires
from .job_queue import JobQueue, QueuedJob
from .poller import Waker

__all__ = ["JobClass", "JobClasses", "WorkerPool"]

logger = logging.getLogger("dilithion_ws.net")


class JobClass:
    """A kind of jobs with a limit of its own. Guarded by the pool's lock.

    Args:
        name: for statistics.
        limit: jobs of this kind that may run at the same time.
        queue: where further ones wait.

    Attributes:
        running: jobs that run.
    """

    __slots__ = ("limit", "name", "queue", "running")

    def __init__(self, name: str, limit: int, queue: JobQueue) -> None:
        self.name = name
        self.limit = limit
        self.queue = queue
        self.running = 0


class JobClasses(msgspec.Struct, frozen=True):
    """The job classes of a pool.

    Attributes:
        calls: slow calls, and HTTP requests.
        logins: verifications of passwords.
        handshakes: steps of TLS handshakes.
    """

    calls: JobClass
    logins: JobClass
    handshakes: JobClass


class WorkerPool:
    """Runs the leader, slow calls, logins, handshakes and dedicated jobs.

    Args:
        workers: number of workers, at least 3.
        classes: the job classes; the pool takes turns between their queues.
        dedicated: threads, in addition to the workers, for `run_dedicated`.
        waker: woken when a worker becomes idle, while `wake_when_idle` is true.

    Attributes:
        classes: the job classes.
        idle: workers without a job.
        wake_when_idle: set by a thread that leads in reserve, which waits for a worker to take over.
    """

    def __init__(self, workers: int, classes: JobClasses, dedicated: int, waker: Waker) -> None:
        self.classes = classes
        self._lock = threading.Lock()  # guards `idle`, `_turns` and the job classes
        self._turns = [classes.handshakes, classes.logins, classes.calls]
        self._waker = waker
        self._thread_count = workers + dedicated
        self.idle = workers
        self.wake_when_idle = False
        self._executor = ThreadPoolExecutor(self._thread_count, thread_name_prefix="dilithion-ws")
        self._threads: list[threading.Thread] = []

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
            self._threads.append(threading.current_thread())
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
            if not self.idle:
                return False
            self.idle -= 1
        self._executor.submit(self._work, run, None)
        return True

    @any_thread
    def submit(self, job: QueuedJob, job_class: JobClass) -> bool:
        """Run a job, or queue it until it may run. Return False if the queue has no place for it."""
        with self._lock:
            must_wait = self.idle < 2 or job_class.running >= job_class.limit
            if must_wait:
                evicted = job_class.queue.put(job)
            else:
                self.idle -= 1
                job_class.running += 1
        if not must_wait:
            self._executor.submit(self._work, job.run, job_class)
            return True
        if evicted is not None and evicted is not job:
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

    def _work(self, run: Callable[[], None] | None, job_class: JobClass | None) -> None:
        """Run a job, and then queued ones as long as a spare worker remains."""
        while run is not None:
            _run_logged(run)
            with self._lock:
                if job_class is not None:
                    job_class.running -= 1
                job_class, job = self._next()
                if job_class is None:
                    self.idle += 1
                    run = None
                else:
                    job_class.running += 1
                    run = job.run if job is not None else None
        if self.wake_when_idle:
            self._waker.wake()

    @requires("_lock")
    def _next(self) -> tuple[JobClass | None, QueuedJob | None]:
        """Return the next queued job and its class; (None, None) if no job may run now."""
        if self.idle:
            for job_class in self._turns:
                if job_class.queue and job_class.running < job_class.limit:
                    self._turns.remove(job_class)
                    self._turns.append(job_class)  # the other classes go first next time, so none starves
                    return job_class, job_class.queue.pop()
        return None, None

    @owner_only
    def shutdown(self, deadline: Deadline) -> int:
        """Stop the threads. Return how many were still in a handler at the deadline."""
        with self._lock:
            for job_class in self._turns:
                job_class.queue.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        stuck = 0
        for thread in self._threads:
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
