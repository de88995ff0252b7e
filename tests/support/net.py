"""Parts that the transport is built with in tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dilithion_ws.net.job_queue import JobQueue
from dilithion_ws.net.poller import Waker
from dilithion_ws.net.worker_pool import JobClass, JobClasses, WorkerPool
from dilithion_ws.protocol.http import HttpRefusal
from dilithion_ws.util.clock import Deadline, monotonic


class AllowAll:
    """A connection policy without an objection."""

    def check_connection(self, host: str) -> HttpRefusal | None:
        return None


@contextmanager
def worker_pool(workers: int, queue: int) -> Iterator[WorkerPool]:
    """Run a pool whose job classes have the same limits; `queue` is the capacity of each one's queue."""
    classes = JobClasses(*(JobClass(name, workers - 2, JobQueue(queue)) for name in ("calls", "logins", "handshakes")))
    waker = Waker()
    pool = WorkerPool(workers, classes, 0, waker)
    pool.start()
    yield pool
    pool.shutdown(Deadline(monotonic, 2.0))
    waker.close()
