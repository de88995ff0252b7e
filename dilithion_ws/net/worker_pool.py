"""The worker threads: a ThreadPoolExecutor, and the account of who is free in it.

Of `workers` threads one leads. The last free one is never given to a slow call: it is the spare that takes the lead
when a handler keeps the leader. So with N workers at most N - 2 slow calls run at a time; more of them wait in a bounded
queue, and past that they are refused. Logins and TLS handshakes have lanes of their own, narrower and each with
its own queue, so that a flood of them takes no worker from calls.

The threads are daemons, and a stuck one is struck off the executor's list at `shutdown`, so that a handler that never
returns can't keep the process from exiting.
"""

from __future__ import annotations

import concurrent.futures.thread as executor_module
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..util.clock import Deadline
from .job_queue import JobQueue, QueuedJob

__all__ = ["Job", "JobClass", "WorkerPool"]

logger = logging.getLogger("dilithion_ws.net")

Job = Callable[[], None]


class JobClass:
    """A kind of jobs: slow calls, logins or handshakes. Guarded by the pool's lock.

    Args:
        most: jobs of this kind that may run at a time.
        line: where the others wait.
    """

    __slots__ = ("most", "running", "waiting")

    def __init__(self, most: int, line: JobQueue) -> None:
        self.most = most
        self.running = 0
        self.waiting = line


class WorkerPool:
    """Runs the leader and the slow calls.

    Args:
        workers: threads, at least 3.
        queue: slow calls that may wait.
        login_workers, login_queue: the same for logins: how many run at a time, how many wait.
        login_share: how many of one address keep their place in a full queue when others come.
        handshakes: TLS handshakes of which a step may wait.
        kept: jobs that may be given to `keep`: there are so many threads more.
        on_free: called, from a worker, when a worker has become free.
    """

    def __init__(
        self,
        workers: int,
        queue: int,
        on_free: Callable[[], None],
        login_workers: int = 1,
        login_queue: int = 0,
        login_share: int = 1,
        handshakes: int = 0,
        kept: int = 0,
    ) -> None:
        self._accounts = threading.Lock()  # guards `free` and the lanes
        self.calls = JobClass(workers, JobQueue(queue))
        self.logins = JobClass(min(login_workers, workers - 2), JobQueue(login_queue, login_share))
        self.handshakes = JobClass(max(1, workers // 4), JobQueue(handshakes))
        self._lanes = [self.handshakes, self.logins, self.calls]  # in turn
        self._on_free = on_free
        self._threads_wanted = workers + kept
        self.free = workers
        self._executor = ThreadPoolExecutor(workers + kept, thread_name_prefix="dilithion-ws")
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts all threads now, from a daemon thread: they inherit that from their maker.

        Raises:
            RuntimeError: the system has no room for them.
        """
        failures: list[BaseException] = []
        starter = threading.Thread(target=self._spawn, args=(failures,), name="dilithion-ws-start", daemon=True)
        starter.start()
        starter.join()
        if failures:
            raise RuntimeError(f"can't start {self._threads_wanted} threads: {failures[0]}")

    def _spawn(self, failures: list[BaseException]) -> None:
        all_here = threading.Barrier(self._threads_wanted)

        def arrive() -> None:
            self._threads.append(threading.current_thread())
            all_here.wait()

        try:
            for future in [self._executor.submit(arrive) for _ in range(self._threads_wanted)]:
                future.result()
        except BaseException as failure:
            failures.append(failure)
            all_here.abort()

    def is_worker(self) -> bool:
        """Whether the calling thread is one of the pool's."""
        return threading.current_thread() in self._threads

    @property
    def waiting(self) -> int:
        """Slow calls in the queue."""
        return len(self.calls.waiting)

    def lead(self, job: Job) -> bool:
        """Gives the lead's job to a free worker; False where there is none."""
        with self._accounts:
            if not self.free:
                return False
            self.free -= 1
        self._executor.submit(self._work, job, None)
        return True

    def submit(self, job: Job | QueuedJob, lane: JobClass) -> bool:
        """Runs a job, or lets it wait for its turn; False where the lane's queue has no place for it."""
        waiting = job if isinstance(job, QueuedJob) else QueuedJob(job)
        with self._accounts:
            must_wait = self.free < 2 or lane.running >= lane.most
            if must_wait:
                out = lane.waiting.put(waiting)
            else:
                self.free -= 1
                lane.running += 1
        if not must_wait:
            self._executor.submit(self._work, waiting.job, lane)
            return True
        if out is not None and out is not waiting:
            out.displaced()
        return out is not waiting

    def keep(self, job: Job) -> None:
        """Gives a job a thread for as long as it likes, beside the workers."""
        self._executor.submit(_logged, job)

    def forget(self, job: Job) -> None:
        """Takes a job out of the queue, if it is still there."""
        with self._accounts:
            for lane in self._lanes:
                lane.waiting.remove(job)

    def _work(self, job: Job | None, lane: JobClass | None) -> None:
        """Runs a job and then those that wait, as long as a spare worker remains."""
        while job is not None:
            _logged(job)
            with self._accounts:
                if lane is not None:
                    lane.running -= 1
                job, lane = self._next()
                if lane is None:
                    self.free += 1
                else:
                    lane.running += 1
        self._on_free()

    def _next(self) -> tuple[Job | None, JobClass | None]:
        """What the worker that asks shall do next; requires holding the lock."""
        assert self._accounts.locked()
        if self.free:
            for lane in self._lanes:
                if lane.waiting and lane.running < lane.most:
                    self._lanes.remove(lane)
                    self._lanes.append(lane)  # the others go first the next time: none starves another
                    return lane.waiting.pop(), lane
        return None, None

    def shutdown(self, deadline: Deadline) -> int:
        """Ends the threads; returns how many were still stuck in a handler at the deadline."""
        with self._accounts:
            for lane in self._lanes:
                lane.waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)
        stuck = 0
        for thread in self._threads:
            thread.join(deadline.remaining())
            if thread.is_alive():
                stuck += 1
                _abandon(thread)
        return stuck


def _logged(job: Job) -> None:
    try:
        job()
    except BaseException:  # the Future is read by nobody, so what it hides is logged here
        logger.exception("a job of the pool failed")


def _abandon(thread: threading.Thread) -> None:
    """Makes the interpreter's exit not wait for a thread.

    The executor's module joins all threads on this list at exit. The list is private: where a Python has it no more,
    exit waits for stuck handlers, as for any ThreadPoolExecutor.
    """
    listed = getattr(executor_module, "_threads_queues", None)
    if listed is not None:
        listed.pop(thread, None)
