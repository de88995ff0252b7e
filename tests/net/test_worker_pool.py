from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from dilithion_ws.net.job_queue import QueuedJob
from dilithion_ws.net.poller import Waker
from dilithion_ws.net.transport import make_pool
from dilithion_ws.net.worker_pool import WorkerPool
from dilithion_ws.util.clock import Deadline, monotonic

from ..support import wait_for
from ..support.configs import make_config
from ..support.net import worker_pool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with worker_pool(4, 2) as pool:
        yield pool


def waits_for(gate: threading.Event) -> Callable[[], None]:
    """Return a job that blocks until the gate opens."""

    def job() -> None:
        gate.wait()

    return job


def test_the_last_free_worker_takes_no_slow_call(pool: WorkerPool, gate: threading.Event) -> None:
    assert pool.start_leader(waits_for(gate))  # one leads, two run slow calls, one is spare
    assert [pool.submit(QueuedJob(waits_for(gate)), pool.classes.calls) for _ in range(5)] == [
        True,
        True,
        True,
        True,
        False,
    ]
    assert pool.idle == 1
    assert len(pool.classes.calls.queue) == 2
    assert pool.start_leader(waits_for(gate)), "the spare one takes the lead"
    assert not pool.start_leader(waits_for(gate))
    gate.set()
    wait_for(lambda: pool.idle == 4)
    assert len(pool.classes.calls.queue) == 0


def test_a_waiting_job_can_be_forgotten(pool: WorkerPool, gate: threading.Event) -> None:
    ran: list[int] = []
    for _ in range(3):
        pool.submit(QueuedJob(waits_for(gate)), pool.classes.calls)

    def job() -> None:
        ran.append(1)

    assert pool.submit(QueuedJob(job), pool.classes.calls)
    pool.cancel(job)
    pool.cancel(job)
    gate.set()
    wait_for(lambda: pool.idle == 4)
    assert ran == []


def test_a_job_that_raises_costs_no_worker(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit("never mind")

    for _ in range(20):
        wait_for(lambda: pool.idle == 4)
        pool.submit(QueuedJob(fail), pool.classes.calls)
    wait_for(lambda: pool.idle == 4)
    assert caplog.text.count("a job of the pool failed") == 20
    assert len(pool._threads) == 4
    assert all(thread.is_alive() and thread.daemon for thread in pool._threads)


def test_a_tenant_leaves_a_share_of_the_workers_to_others(gate: threading.Event) -> None:
    with worker_pool(5, 4, max_per_tenant=2) as pool:
        calls, ran = pool.classes.calls, threading.Event()
        for _ in range(4):
            assert pool.submit(QueuedJob(waits_for(gate), tenant="busy"), calls)
        assert (calls.running, len(calls.queue)) == (2, 2)
        assert pool.submit(QueuedJob(ran.set, tenant="other"), calls)
        assert ran.wait(5), "it goes past what waits in the queue"
        gate.set()
        wait_for(lambda: pool.idle == 5)


def test_one_address_keeps_its_places_in_the_queue_of_logins_only(gate: threading.Event) -> None:
    config = make_config(workers=3, login_workers=1, login_queue=4, login_queue_per_address=2)
    waker = Waker()
    pool = make_pool(config, 0, waker)
    pool.start()
    logins, evicted = pool.classes.logins, list[str]()
    for tenant in "aaaaabc":
        job = QueuedJob(waits_for(gate), tenant=tenant, on_evicted=lambda tenant=tenant: evicted.append(tenant))  # type: ignore[misc]
        assert pool.submit(job, logins)
    assert evicted == ["a", "a"], "one runs, and two of four kept their places"
    assert not pool.submit(QueuedJob(waits_for(gate), tenant="d"), logins)
    gate.set()
    pool.shutdown(Deadline(monotonic, 2.0))
    waker.close()


def test_brief_jobs_of_a_tenant_use_every_free_thread_and_those_of_others_go_first(gate: threading.Event) -> None:
    with worker_pool(6, 8, max_per_tenant=2) as pool:
        calls, order = pool.classes.calls, list[str]()
        gates = [threading.Event() for _ in range(4)]
        for one in gates:
            assert pool.submit(QueuedJob(waits_for(one), tenant="busy", is_brief=True), calls)
        assert (calls.running, len(calls.queue)) == (4, 0), "no other tenant wants the threads"
        for name, is_brief in (("busy", True), ("busy", False), ("other", False)):
            job = QueuedJob(lambda name=name: order.append(name), tenant=name, is_brief=is_brief)  # type: ignore[misc]
            assert pool.submit(job, calls)
        gates[0].set()
        wait_for(lambda: order == ["other", "busy"])
        assert len(calls.queue) == 1, "a long one waits for its share"
        for one in gates:
            one.set()
        wait_for(lambda: pool.idle == 6)
        assert order == ["other", "busy", "busy"]


def test_a_job_that_was_given_up_gets_another_thread_in_its_place(gate: threading.Event) -> None:
    with worker_pool(3, 4, max_overdue=1) as pool:
        calls, ran = pool.classes.calls, threading.Event()
        stuck, second = waits_for(gate), waits_for(gate)
        for job in (stuck, ran.set, second):
            assert pool.submit(QueuedJob(job), calls)
        pool.give_up(stuck)
        assert ran.wait(5)
        wait_for(lambda: calls.running == 1 and not len(calls.queue))
        assert pool.overdue == 1
        pool.give_up(second)
        assert calls.running == 1, "past the bound it keeps its place"
        assert pool.submit(QueuedJob(waits_for(gate)), calls)
        assert len(calls.queue) == 1
        gate.set()
        wait_for(lambda: pool.idle == 3)
        assert (pool.overdue, calls.running) == (0, 0)


def test_each_class_has_threads_of_its_own(gate: threading.Event) -> None:
    pool = make_pool(make_config(workers=3, login_workers=1, request_workers=1), 0, waker := Waker())
    pool.start()
    try:
        for job_class in (pool.classes.calls, pool.classes.logins, pool.classes.requests):
            for _ in range(3):
                pool.submit(QueuedJob(waits_for(gate)), job_class)
        assert [job_class.running for job_class in pool.classes.all()] == [1, 1, 0, 1]
        assert pool.idle == 2, "the leader, which was not started, and the spare"
    finally:
        gate.set()
        pool.shutdown(Deadline(monotonic, 2.0))
        waker.close()


def test_shutdown_gives_up_on_stuck_jobs_at_the_deadline(gate: threading.Event) -> None:
    running = threading.Event()

    def block() -> None:
        running.set()
        gate.wait()

    with worker_pool(3, 2) as pool:
        pool.submit(QueuedJob(block), pool.classes.calls)
        assert running.wait(5)
        assert pool.shutdown(Deadline(monotonic, 0.1)) == 1
        gate.set()
