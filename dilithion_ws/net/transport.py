"""A running transport: acceptor, pool, event loop and watchdog, started together and stopped together."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

from ..config.config import Config
from ..errors import StartError
from ..util.clock import Deadline
from ..util.sync import Latch, WakeFlag
from ..util.thread_contracts import any_thread, owner_only
from .acceptor import Acceptor
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection_handler import ConnectionHandler, Stages
from .delivery_threads import DeliveryShard, DeliveryThreads
from .event_loop import EventLoop
from .handshake_handler import HandshakeHandler
from .http_handler import HttpHandler
from .job_queue import JobQueue
from .keepalive import Keepalive
from .listeners import Listeners, listen
from .loop_ownership import LoopOwnership
from .message_server import MessageServer
from .poller import Waker
from .proxy_handler import ProxyProtocolHandler
from .reactor import Reactor
from .shutdown import Resource, ShutdownSequence
from .tls import TlsContext
from .tls_handshake import TlsHandshakeHandler
from .watchdog import Watchdog
from .worker_pool import JobClass, JobClasses, WorkerPool

__all__ = ["Transport", "make_event_loop", "make_pool"]


def make_pool(config: Config, dedicated: int, waker: Waker) -> WorkerPool:
    """Return the pool of a server, with `dedicated` threads in addition to the workers."""
    calls, logins = config.limits.calls, config.limits.logins

    def job_class(name: str, threads: int, queue: JobQueue, max_per_tenant: int | None = None) -> JobClass:
        share = max(1, threads - threads // 4)
        return JobClass(name, threads, queue, share if max_per_tenant is None else min(share, max_per_tenant))

    classes = JobClasses(
        calls=job_class("calls", calls.workers - 2, JobQueue(calls.queue, calls.queue // 2), calls.calls_per_user),
        logins=JobClass("logins", logins.login_workers, JobQueue(logins.login_queue, logins.login_queue_per_address)),
        handshakes=JobClass(
            "handshakes",
            calls.handshake_workers if config.has_tls else 0,
            JobQueue(config.limits.connections.connections),
        ),
        requests=job_class("requests", calls.request_workers, JobQueue(calls.queue, calls.queue // 2)),
    )
    return WorkerPool(classes, dedicated, waker, calls.overdue_calls)


def make_event_loop(
    reactor: Reactor, pool: WorkerPool, tls: TlsContext | None = None, watch: WakeFlag | None = None
) -> EventLoop:
    """Return the event loop of a server: this function joins the classes of the leading thread.

    Args:
        reactor: the connections.
        pool: the workers.
        tls: the server's TLS context, or None if connections are not encrypted.
        watch: set when a task begins while the watchdog sleeps.
    """
    ownership = LoopOwnership(reactor, WakeFlag() if watch is None else watch)
    closer = CloseHandshake(reactor)
    scheduler = CallScheduler(pool, reactor.service, reactor.limits)
    http = HttpHandler(reactor, closer, scheduler)
    stages = Stages(
        proxy=ProxyProtocolHandler(reactor, closer),
        tls=TlsHandshakeHandler(reactor, closer, scheduler, tls),
        handshake=HandshakeHandler(reactor, closer, scheduler, http),
        messages=MessageServer(reactor, closer, scheduler, ownership),
        closer=closer,
        keepalive=Keepalive(reactor, closer),
    )
    return EventLoop(reactor, ConnectionHandler(reactor, stages), ownership)


class Transport:
    """Everything between `start` and `stop` of one server. It listens when it is made, and can be started once.

    Args:
        reactor: the connections.
        pool: the workers.
        tls: the server's TLS context, or None.
        shards: deliver events; each is stepped by a thread of its own, which also sends broadcasts.
        resources: are stopped after the server.
        sockets: where it accepts connections; empty if it makes sockets as configured.

    Attributes:
        port: the port it listens on.
        ended: open once everything has stopped.

    Raises:
        StartError: an address cannot be listened on. Nothing is left running.
    """

    def __init__(
        self,
        reactor: Reactor,
        pool: WorkerPool,
        tls: TlsContext | None,
        shards: Sequence[DeliveryShard],
        resources: Sequence[Resource],
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._reactor = reactor
        self._pool = pool
        self._undo = contextlib.ExitStack()  # how to release what was acquired, if a later step fails
        self._undo.callback(reactor.close)
        with self._releasing_on_failure():
            listeners = Listeners(sockets, shared=True) if sockets else listen(reactor.config)
            self._undo.callback(listeners.close)
            self.port = listeners.port
            watch = WakeFlag()
            self._delivery = DeliveryThreads(pool, list(zip(shards, reactor.registry.broadcasts.shards, strict=True)))
            loop = make_event_loop(reactor, pool, tls, watch)
            self._acceptor = Acceptor(listeners, reactor.limiter, reactor.mailbox, reactor.clock)
            self._undo.callback(self._acceptor.stop, Deadline(reactor.clock, 1.0))
            shutdown = ShutdownSequence(loop, pool, self._acceptor, self._delivery, resources)
            self.ended: Latch = shutdown.ended
            self._watchdog = Watchdog(loop, pool, shutdown, watch)

    @owner_only
    def start(self) -> None:
        """Start all threads. Raises StartError if that is impossible. Then nothing is left running."""
        with self._releasing_on_failure():
            clock = self._reactor.clock
            self._undo.callback(lambda: self._pool.shutdown(Deadline(clock, 1.0)))
            self._pool.start()
            self._undo.callback(self._delivery.stop)
            self._delivery.start()
            self._acceptor.start()
            self._watchdog.start()

    @owner_only
    def abandon(self) -> None:
        """Release what the constructor acquired, if `start` will not be called."""
        self._undo.close()

    @contextlib.contextmanager
    def _releasing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except StartError:
            self._undo.close()
            raise
        except (OSError, RuntimeError) as error:
            self._undo.close()
            raise StartError(f"the server could not start: {error}") from error

    @any_thread
    def request_stop(self, timeout: float) -> None:
        """Stop within `timeout` seconds. Safe in a signal handler."""
        self._watchdog.request_stop(timeout)

    @any_thread
    def is_responsive(self, timeout: float) -> bool:
        """Return whether the leading thread executes a command within `timeout` seconds."""
        answered = threading.Event()
        self._reactor.mailbox.post(lambda leader: answered.set())
        return answered.wait(timeout)

    @any_thread
    def can_wait(self) -> bool:
        """Return whether the calling thread may wait for the server to stop.

        A thread of the server would wait for itself. And a thread that a signal has interrupted while it was sending may
        hold a lock that the leader needs.
        """
        return not (self._pool.is_worker() or self._watchdog.is_reserve() or self._reactor.registry.is_sending())
