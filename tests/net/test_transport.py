"""The transport with its threads: start, a leader that stalls, a thread in reserve, delivery, and stopping."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dilithion_ws import StartError
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.net.connection_registry import ConnectionRegistry
from dilithion_ws.net.mailbox import Mailbox
from dilithion_ws.net.reactor import Reactor
from dilithion_ws.net.transport import Transport, make_pool
from dilithion_ws.protocol.frames import TEXT
from dilithion_ws.util.clock import Deadline, monotonic
from dilithion_ws.util.enums import Speed
from dilithion_ws.util.sync import WakeFlag

from ..support import RawClient, wait_for
from ..support.configs import make_config
from ..support.net import Echo, EchoTask


class GateTask(EchoTask):
    """Answers once the test opens the gate."""

    def run(self) -> bytes:
        gate: threading.Event = self._service.gate  # type: ignore[attr-defined]
        assert gate.wait(20)
        return self._payload


class GateEcho(Echo):
    """Answers `gate …` in the thread that received it, and `pool …` in the pool, when the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def receive(self, session: Any, opcode: int, payload: bytes) -> Any:
        speeds = {b"gate": Speed.MEASURED_FAST, b"declared": Speed.DECLARED_FAST, b"pool": Speed.SLOW}
        speed = speeds.get(payload.partition(b" ")[0])
        return payload if speed is None else GateTask(self, session, payload, speed)


class CountingShard:
    """Counts its steps; the first one fails."""

    def __init__(self) -> None:
        self.wake = WakeFlag()
        self.step_lock = threading.Lock()
        self.steps = 0

    def step(self) -> bool:
        self.steps += 1
        if self.steps == 1:
            raise ValueError("the first step")
        return self.steps % 3 != 0


class Resource:
    def __init__(self) -> None:
        self.stopped = False

    def stop(self, deadline: Deadline) -> None:
        self.stopped = True


class Running:
    """A transport that runs."""

    def __init__(self, **options: Any) -> None:
        config = make_config(**{"workers": 3, "login_workers": 1, "request_workers": 1, **options})
        self.service, self.shard, self.resource = GateEcho(), CountingShard(), Resource()
        mailbox = Mailbox()
        self.registry = ConnectionRegistry(config.limits, mailbox, [self.shard.wake])
        self.pool = make_pool(config, 1, mailbox.waker)
        self.worker_count = self.pool.idle
        self.limiter = ConnectionLimiter(config.limits, 1000, self.service)
        reactor = Reactor(config, monotonic, self.service, self.registry, self.limiter)
        self.transport = Transport(reactor, self.pool, None, [self.shard], [self.resource])

    def stop(self, timeout: float = 5.0) -> bool:
        self.transport.request_stop(timeout)
        return self.transport.ended.wait(timeout + 5)


@pytest.fixture
def running() -> Iterator[Running]:
    running = Running()
    running.transport.start()
    yield running
    running.service.gate.set()
    assert running.stop()


def connect(running: Running) -> RawClient:
    return RawClient(running.transport.port)


def test_clients_are_answered_and_everything_is_released(running: Running) -> None:
    with connect(running) as client:
        client.text("echo 1")
        assert client.frame() == (TEXT, b"echo 1")
        assert running.transport.can_wait()
        assert running.stop()
        assert client.close_frame()[0] == 1001
    assert running.resource.stopped
    assert running.limiter.total == 0


def test_a_leader_that_stalls_is_replaced(running: Running) -> None:
    with connect(running) as stalled, connect(running) as other:
        stalled.text("gate 1")
        for number in range(3):
            other.text(f"echo {number}")
            assert other.frame() == (TEXT, b"echo %d" % number)
        running.service.gate.set()
        assert stalled.frame() == (TEXT, b"gate 1")


def test_without_an_idle_worker_a_thread_in_reserve_leads(running: Running) -> None:
    clients = [connect(running) for _ in range(running.worker_count + 1)]
    for client in clients[:-1]:
        client.text("gate x")
    wait_for(lambda: running.pool.wake_when_idle, what="a thread in reserve leading")
    clients[-1].text("echo 1")
    assert clients[-1].frame() == (TEXT, b"echo 1")
    running.service.gate.set()
    for client in clients[:-1]:
        assert client.frame() == (TEXT, b"gate x")
    wait_for(lambda: not running.pool.wake_when_idle)
    for client in clients:
        client.close()


def test_a_thread_in_reserve_that_stalls_is_replaced_too(running: Running) -> None:
    clients = [connect(running) for _ in range(running.worker_count + 2)]
    for client in clients[:-2]:
        client.text("gate x")
    wait_for(lambda: running.pool.wake_when_idle)
    clients[-2].text("declared x")
    clients[-1].text("echo 1")
    assert clients[-1].frame() == (TEXT, b"echo 1")
    running.service.gate.set()
    assert clients[-2].frame() == (TEXT, b"declared x")
    for client in clients:
        client.close()


def test_slow_tasks_run_in_the_pool_and_wait_in_its_queue(running: Running) -> None:
    with connect(running) as client:
        for number in range(3):
            client.text(f"pool {number}")
        wait_for(lambda: len(running.pool.classes.calls.queue) == 2)
        running.service.gate.set()
        assert {client.frame()[1] for _ in range(3)} == {b"pool 0", b"pool 1", b"pool 2"}


def test_shards_are_stepped_also_after_a_fault(running: Running) -> None:
    wait_for(lambda: running.shard.steps >= 1)
    running.shard.wake.set()
    wait_for(lambda: running.shard.steps >= 3)


def test_stopping_does_not_wait_for_a_task_that_never_ends(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with connect(running) as client:
        client.text("pool x")
        wait_for(lambda: running.pool.classes.calls.running == 1)
        assert running.stop(0.3)
        assert "handlers did not return by the deadline" in caplog.text
        running.service.gate.set()


def test_a_second_request_may_shorten_the_time(running: Running) -> None:
    with connect(running) as client:
        client.text("pool x")
        wait_for(lambda: running.pool.classes.calls.running == 1)
        running.transport.request_stop(60.0)
        running.transport.request_stop(0.2)
        assert running.transport.ended.wait(10)
        running.service.gate.set()


def test_a_transport_that_is_not_started_releases_its_port() -> None:
    running = Running()
    with pytest.raises(StartError, match="another program listens there"):
        Running(port=running.transport.port)
    running.transport.abandon()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", running.transport.port))


def test_a_start_without_room_for_threads_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running()
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("no thread")))
    with pytest.raises(StartError, match="the server could not start: no thread"):
        running.transport.start()
