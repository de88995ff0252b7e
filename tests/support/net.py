"""Parts that the transport is built with in tests."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from dilithion_ws import CloseStatus, Session
from dilithion_ws.config.config import parse_network
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.net.connection_registry import ConnectionRegistry
from dilithion_ws.net.event_loop import EventLoop
from dilithion_ws.net.interfaces import Accepted, Address, Admission
from dilithion_ws.net.job_queue import JobQueue, QueuedJob
from dilithion_ws.net.loop_ownership import OwnershipLost
from dilithion_ws.net.mailbox import Mailbox
from dilithion_ws.net.poller import Waker
from dilithion_ws.net.reactor import Reactor
from dilithion_ws.net.tls import TlsContext
from dilithion_ws.net.transport import make_event_loop
from dilithion_ws.net.worker_pool import JobClass, JobClasses, WorkerPool
from dilithion_ws.protocol.handshake import UpgradeRequest
from dilithion_ws.protocol.http import HttpHead, HttpRefusal, HttpRequest, HttpResponse
from dilithion_ws.util.clock import Deadline, monotonic
from dilithion_ws.util.enums import Speed, TaskKind
from dilithion_ws.util.sync import WakeFlag

from . import Clock
from .configs import make_config


class AllowAll:
    """A connection policy without an objection."""

    def check_connection(self, host: str) -> HttpRefusal | None:
        return None


@contextmanager
def worker_pool(
    workers: int, queue: int, max_per_tenant: int | None = None, max_overdue: int = 0
) -> Iterator[WorkerPool]:
    """Run a pool whose threads, but for the leader and the spare, run calls."""
    calls = JobClass("calls", workers - 2, JobQueue(queue), max_per_tenant)
    others = [JobClass(name, 0, JobQueue(queue)) for name in ("logins", "handshakes", "requests")]
    waker = Waker()
    pool = WorkerPool(JobClasses(calls, *others), 0, waker, max_overdue)
    pool.start()
    yield pool
    pool.shutdown(Deadline(monotonic, 2.0))
    waker.close()


class Echo:
    """A service that accepts every client and answers messages by their first word.

    `echo …` is answered at once, `slow …` by a task for the pool, and `stall …` by a task during which the loop is taken
    away from its thread, as the watchdog does.
    """

    def __init__(self) -> None:
        self.loop: EventLoop | None = None
        self.opened: list[int] = []
        self.closed: list[tuple[int, CloseStatus]] = []
        self.http_task: Any = None
        self.decision_at_head: Any = None

    def check_connection(self, host: str) -> HttpRefusal | None:
        return None

    def upgrade(
        self, connection_id: int, address: Address, request: UpgradeRequest, certificate: bytes = b""
    ) -> Accepted:
        return Accepted(Session(connection_id, address), (), math.inf)

    def admit(self, connection_id: int, address: Address, head: HttpHead, certificate: bytes = b"") -> Any:
        if head.target == "/decided":
            return self.decision_at_head
        return Admission(Session(connection_id, address), head.target)

    def http(self, admission: Admission, request: HttpRequest) -> Any:
        if admission.route == "/slow":
            return self.http_task
        return HttpResponse(200, b"hello " + admission.session.address[0].encode() + request.body)

    def login_priority(self, session: Session) -> int:
        return 0

    def on_open(self, session: Session) -> None:
        self.opened.append(session.connection_id)

    def on_received(self, session: Session, size: int, frames: int) -> None: ...

    def receive(self, session: Session, opcode: int, payload: bytes) -> Any:
        word = payload.partition(b" ")[0]
        if word == b"echo":
            return payload
        return EchoTask(self, session, payload, Speed.SLOW if word == b"slow" else Speed.DECLARED_FAST)

    def may_ping(self, session: Session) -> bool:
        return True

    def on_deadline(self, session: Session) -> CloseStatus | float:
        return math.inf

    def on_writable(self, session: Session) -> None: ...

    def on_closed(self, session: Session, status: CloseStatus) -> None:
        self.closed.append((session.connection_id, status))


class EchoTask:
    """Answers with the message."""

    is_serial = False
    kind = TaskKind.CALL
    hooks = None
    timeout = None

    def __init__(self, service: Echo, session: Session, payload: bytes, speed: Speed) -> None:
        self._service = service
        self.session = session
        self.speed = speed
        self._payload = payload
        self.stalls = 0

    def run(self) -> bytes:
        if self.speed is Speed.DECLARED_FAST:
            assert self._service.loop is not None
            assert self._service.loop.seize(self)
        return self._payload

    def refuse(self, reason: str) -> bytes:
        return b"refused: " + reason.encode()

    def expire(self) -> bytes:
        return b"expired " + self._payload

    def on_stall(self) -> None:
        self.stalls += 1


class ManualPool:
    """A pool without threads: the test runs its jobs."""

    def __init__(self) -> None:
        names = ("calls", "logins", "handshakes", "requests")
        self.classes = JobClasses(*(JobClass(name, 1, JobQueue(1)) for name in names))
        self.idle = 1
        self.jobs: list[QueuedJob] = []

    def submit(self, job: QueuedJob, job_class: JobClass) -> bool:
        self.jobs.append(job)
        return True

    def give_up(self, run: Callable[[], None]) -> None: ...

    def cancel(self, run: Callable[[], None]) -> None:
        self.jobs = [job for job in self.jobs if job.run != run]


class Machine:
    """The transport without threads: its event loop is stepped, its clock is set, its jobs are run by the test."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.service = Echo()
        self.pool = ManualPool()
        config = make_config(**options)
        self.mailbox = Mailbox()
        self.registry = ConnectionRegistry(config.limits, self.mailbox, [WakeFlag()])
        proxies = [parse_network(text, "trusted_proxies") for text in config.trusted_proxies]
        self.limiter = ConnectionLimiter(config.limits, 1000, self.service, proxies)
        tls = TlsContext(config.certificate, config.private_key, "") if config.has_tls else None
        self.reactor = Reactor(config, self.clock, self.service, self.registry, self.limiter)
        self.loop = make_event_loop(self.reactor, cast(Any, self.pool), tls)
        self.service.loop = self.loop
        self.reactor.leader = threading.get_ident()

    def accept(self, host: str = "127.0.0.1") -> socket.socket:
        """Return the client's end of a new connection from an address."""
        ours, theirs = socket.socketpair()  # blocking, as `accept` returns it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs.setblocking(False)
        assert self.limiter.acquire(host) is None
        self.mailbox.post(lambda leader: leader.on_accepted(ours, (host, 1)))
        return theirs

    def step(self) -> None:
        """Take turns of the loop until nothing is ready; after a turn in which the loop was taken over, go on."""
        for _ in range(1000):
            events = self.reactor.poller.poll(0)
            if not events and not (self.mailbox.commands or self.reactor.unpolled or self.reactor.waiting):
                return
            try:
                self.loop.run_once(events, self.clock())
            except OwnershipLost:
                pass
        raise AssertionError("the loop does not come to rest")

    def send_broadcasts(self) -> None:
        """Do what the delivering threads do."""
        for shard in self.registry.broadcasts.shards:
            with shard.step_lock:
                while shard.step():
                    pass
        self.step()

    def run_job(self) -> None:
        """Run the oldest job of the pool."""
        self.pool.jobs.pop(0).run()

    def advance(self, seconds: float) -> None:
        """Move the clock, and handle the timers that are due."""
        self.clock.now += seconds
        self.loop.run_once([], self.clock())
        self.step()

    def close(self) -> None:
        """End the loop, and release all descriptors."""
        self.mailbox.post(lambda leader: self.loop.end())
        self.step()
        self.reactor.close()
