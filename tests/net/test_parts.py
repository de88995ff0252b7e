"""The small parts of the transport, each by itself."""

from __future__ import annotations

import signal
import socket
import threading
from typing import Any

import pytest

from dilithion_ws import Limits
from dilithion_ws.net.connection import TRANSITIONS, Connection, ConnectionState, SendResult
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.net.poller import ENDED, READ, WRITE, Poller, SelectorPoller, Waker
from dilithion_ws.net.timer_queue import TimerQueue
from dilithion_ws.net.worker_pool import WorkerPool
from dilithion_ws.net.write_buffer import WriteBuffer
from dilithion_ws.util.clock import Deadline, monotonic
from dilithion_ws.util.ip import is_loopback
from dilithion_ws.util.sync import Latch, WakeFlag

from ..support import Clock, wait_for

# Timers


def test_timers_give_what_is_due_in_order() -> None:
    timers: TimerQueue[str] = TimerQueue()
    assert timers.timeout(0) is None
    for at, item in ((5.0, "b"), (3.0, "a"), (5.0, "c"), (9.0, "d")):
        timers.add(at, item)
    assert timers.timeout(1.0) == 2.0
    assert list(timers.due(5.0)) == [(3.0, "a"), (5.0, "b"), (5.0, "c")]
    assert timers.timeout(20.0) == 0.0
    assert len(timers) == 1


def test_timers_may_be_added_while_others_are_due() -> None:
    timers: TimerQueue[int] = TimerQueue()
    timers.add(1.0, 0)
    seen = []
    for at, item in timers.due(3.0):
        seen.append(item)
        timers.add(at + 1.0, item + 1)
    assert seen == [0, 1, 2]


# Outbox


class Taker:
    """Takes as many bytes at a time as it is told to."""

    def __init__(self, *portions: int) -> None:
        self.portions = list(portions)
        self.taken = b""

    def __call__(self, data: bytes | memoryview) -> int:
        size = min(self.portions.pop(0), len(data)) if self.portions else 0
        self.taken += bytes(data[:size])
        return size


def test_the_outbox_keeps_order_over_partial_sends() -> None:
    outbox = WriteBuffer(1.0)
    pieces = [b"a" * 10, b"b" * 70_000, b"c", b"d" * 3]
    for piece in pieces:
        outbox.append(piece)
    assert outbox.size == 70_014
    taker = Taker(4, 50_000, 2)
    assert not outbox.drain(taker, 2.0)
    assert outbox.progress_at == 2.0
    taker.portions = [7, 3]
    assert not outbox.drain(taker, 3.0)
    taker.portions = [1 << 20] * 10
    assert outbox.drain(taker, 4.0)
    assert taker.taken == b"".join(pieces)
    assert outbox.size == 0


def test_no_progress_leaves_the_time_of_the_last() -> None:
    outbox = WriteBuffer(1.0)
    outbox.append(b"x")
    assert not outbox.drain(Taker(), 9.0)
    assert outbox.progress_at == 1.0


def test_small_pieces_leave_together() -> None:
    outbox = WriteBuffer(0.0)
    for _ in range(1000):
        outbox.append(b"0123456789")
    sizes = []

    def send(data: bytes | memoryview) -> int:
        sizes.append(len(data))
        return len(data)

    assert outbox.drain(send, 0.0)
    assert sizes == [10_000]


# Poller


@pytest.fixture(params=[Poller, SelectorPoller])
def poller(request: pytest.FixtureRequest) -> Any:
    poller = request.param()
    yield poller
    poller.close()


def test_a_poller_waits_for_what_it_was_told(poller: Any) -> None:
    left, right = socket.socketpair()
    with left, right:
        fd = left.fileno()
        poller.set_interest(fd, 0, READ)
        assert poller.poll(0) == []
        right.send(b"x")
        assert poller.poll(1) == [(fd, READ)]
        poller.set_interest(fd, READ, READ | WRITE)
        assert sum(mask for _, mask in poller.poll(1)) & (READ | WRITE) == READ | WRITE
        poller.set_interest(fd, READ | WRITE, 0)
        assert poller.poll(0) == []
        right.close()
        assert poller.poll(0) == [], "who waits for nothing hears of no hang-up"
        poller.set_interest(fd, 0, READ)
        assert poller.poll(1)[0][1] & (READ | ENDED)


def test_a_waker_never_blocks_and_is_drained_whole(poller: Any) -> None:
    waker = Waker()
    poller.set_interest(waker.fd, 0, READ)
    for _ in range(1_000_000 // 4):
        waker.wake()
    assert poller.poll(1) == [(waker.fd, READ)]
    waker.drain()
    assert poller.poll(0) == []
    waker.wake()
    assert poller.poll(1)
    poller.set_interest(waker.fd, READ, 0)
    waker.close()
    waker.wake()


# Latch and bell


def test_a_latch_lets_all_waiters_go_and_stays_open() -> None:
    latch = Latch()
    assert not latch.wait(0.01)
    assert not latch.is_open
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(latch.wait(10))) for _ in range(5)]
    for thread in threads:
        thread.start()
    latch.open()
    latch.open()
    for thread in threads:
        thread.join()
    assert results == [True] * 5
    assert latch.wait(0)


def test_a_bell_remembers_one_ring() -> None:
    bell = WakeFlag()
    bell.ring()
    bell.ring()
    bell.wait(None)
    started = monotonic()
    bell.wait(0.02)
    assert monotonic() - started >= 0.015


# Deadline


def test_a_deadline_is_never_negative() -> None:
    clock = Clock()
    deadline = Deadline(clock, 5)
    clock.now += 7
    assert deadline.expired
    assert deadline.remaining() == 0.0
    assert Deadline(clock, -3).at == clock.now
    assert Deadline.until(clock, clock.now + 2).remaining() == 2.0
    assert "2.000 s" in repr(Deadline(clock, 2))


# Admission


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("name", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_admission_counts_in_all_and_by_address() -> None:
    admission = ConnectionLimiter(Limits.from_names(connections=4, connections_per_address=2), 100)
    assert [admission.admit("10.0.0.1") for _ in range(2)] == [None, None]
    assert "rpcwebsocketconnectionsperaddress" in (admission.admit("10.0.0.1") or "")
    assert [admission.admit("127.0.0.1") for _ in range(2)] == [None, None], "loopback is exempt from the second limit"
    assert "connections limit of 4 connections (rpcwebsocketconnections)" in (admission.admit("10.0.0.2") or "")
    admission.release("10.0.0.1")
    assert admission.admit("10.0.0.1") is None
    for host in ("10.0.0.1", "10.0.0.1", "127.0.0.1", "127.0.0.1"):
        admission.release(host)
    assert admission.total == 0
    assert admission._by_address == {}


def test_admission_stays_below_the_limit_of_open_files() -> None:
    admission = ConnectionLimiter(Limits(), 1)
    assert admission.admit("127.0.0.1") is None
    assert "open files" in (admission.admit("127.0.0.1") or "")


# Connection


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Connection(1, ours, ("127.0.0.1", 1), 0.0), theirs


def test_the_transition_table_names_every_state_and_ends_in_closed() -> None:
    assert set(TRANSITIONS) == set(ConnectionState)
    assert TRANSITIONS[ConnectionState.CLOSED] == frozenset()
    assert all(
        ConnectionState.CLOSED in after for state, after in TRANSITIONS.items() if state is not ConnectionState.CLOSED
    )


def test_a_wrong_transition_is_a_fault(pair: Any) -> None:
    connection, _ = pair
    with connection.lock, pytest.raises(AssertionError):
        connection.become(ConnectionState.CLOSING)


def test_nothing_is_sent_before_the_upgrade_or_behind_a_close(pair: Any) -> None:
    connection, _ = pair
    for state in ConnectionState:
        connection.state = state
        expected = SendResult.ALL if state in (ConnectionState.OPEN, ConnectionState.FINISHING) else SendResult.REFUSED
        assert connection.send(b"x", monotonic) is expected


def test_what_the_socket_does_not_take_waits_in_order(pair: Any) -> None:
    connection, theirs = pair
    connection.state = ConnectionState.OPEN
    data = bytes(range(256)) * 4000
    assert connection.send(data, monotonic) is SendResult.WAITING
    assert connection.send(b"end", monotonic) is SendResult.WAITING
    received = b""
    while connection.flush(1.0) is SendResult.WAITING or len(received) < len(data) + 3:
        received += theirs.recv(1 << 20)
    assert received == data + b"end"
    assert connection.outbox is None
    assert connection.unsent == 0


def test_a_broken_socket_shows(pair: Any) -> None:
    connection, theirs = pair
    connection.state = ConnectionState.OPEN
    assert connection.send(bytes(1 << 22), monotonic) is SendResult.WAITING
    theirs.close()
    assert connection.flush(1.0) is SendResult.BROKEN
    connection.outbox = None
    assert connection.send(b"x", monotonic) is SendResult.BROKEN


# Pool


@pytest.fixture
def pool() -> Any:
    pool = WorkerPool(4, 2, lambda: None)
    pool.start()
    yield pool
    pool.shutdown(Deadline(monotonic, 2.0))


def test_the_last_free_worker_takes_no_slow_call(pool: WorkerPool, gate: threading.Event) -> None:
    assert pool.lead(gate.wait)  # one leads, two run slow calls, one is spare
    assert [pool.submit(gate.wait, pool.calls) for _ in range(5)] == [True, True, True, True, False]
    assert pool.free == 1
    assert pool.waiting == 2
    assert pool.lead(gate.wait), "the spare one takes the lead"
    assert not pool.lead(gate.wait)
    gate.set()
    wait_for(lambda: pool.free == 4)
    assert pool.waiting == 0


def test_a_waiting_job_can_be_forgotten(pool: WorkerPool, gate: threading.Event) -> None:
    ran: list[int] = []
    for _ in range(3):
        pool.submit(gate.wait, pool.calls)

    def job() -> None:
        ran.append(1)

    assert pool.submit(job, pool.calls)
    pool.forget(job)
    pool.forget(job)
    gate.set()
    wait_for(lambda: pool.free == 4)
    assert ran == []


def test_a_job_that_raises_costs_no_worker(pool: WorkerPool, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise SystemExit("never mind")

    for _ in range(20):
        wait_for(lambda: pool.free == 4)
        pool.submit(fail, pool.calls)
    wait_for(lambda: pool.free == 4)
    assert caplog.text.count("a job of the pool failed") == 20
    assert len(pool._threads) == 4
    assert all(thread.is_alive() and thread.daemon for thread in pool._threads)


def test_shutdown_gives_up_on_stuck_jobs_at_the_deadline(gate: threading.Event) -> None:
    pool = WorkerPool(3, 2, lambda: None)
    pool.start()
    running = threading.Event()
    pool.submit(lambda: running.set() or gate.wait(), pool.calls)  # type: ignore[func-returns-value]
    assert running.wait(5)
    started = monotonic()
    assert pool.shutdown(Deadline(monotonic, 0.1)) == 1
    assert monotonic() - started < 5


def test_a_signal_that_another_thread_got_ends_the_wait_of_the_main_thread_too() -> None:
    """Its handler runs in the main thread, but nothing wakes that thread for it."""
    latch = Latch()
    before = signal.signal(signal.SIGUSR1, lambda *_: latch.open())
    try:
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        timer = threading.Timer(0.1, thread.start)
        timer.start()
        assert latch.wait(10)
        timer.join()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
