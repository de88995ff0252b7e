"""A running server without its meaning: acceptor, pool, loop and supervisor, put together and taken apart."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from ..config.config import Config, parse_network
from ..config.limits import limit_reached
from ..errors import CloseCode, ConnectionNotFoundError, OutboxFullError, StartError
from ..protocol.http_connection import HttpRefusal
from ..util.clock import Clock, Deadline
from ..util.sync import WakeFlag
from .acceptor import Acceptor, listen
from .connection import ALL, BROKEN, REFUSED, WAITING, Connection, SendResult
from .connection_limiter import ConnectionLimiter
from .connection_subscriber import ConnectionSubscriber
from .delivery_threads import DeliveryThreads, Steppable
from .event_loop import EventLoop
from .interfaces import Service
from .tls import TlsContext
from .watchdog import Watchdog
from .worker_pool import WorkerPool

__all__ = ["Transport"]

_FILES_KEPT = 64
"""Descriptors left for the host: files, databases, its own sockets."""


class Transport:
    """Everything between `start()` and `stop()` of one server. It listens when it is made, and can be started once.

    Args:
        config: address and limits.
        service: who answers.
        clock: seconds that never go backwards.
        tls: makes connections secure; None for plain ones.
        refusal: why an address may not connect; None where it may.
        at_end: called last at a stop, with what is left of its deadline.
        shards: what delivers events; each is stepped by a thread of its own.

    Raises:
        StartError: the address can't be listened on; nothing is left running.
    """

    def __init__(
        self,
        config: Config,
        service: Service,
        clock: Clock,
        tls: TlsContext | None,
        refusal: Callable[[str], HttpRefusal | None],
        at_end: Callable[[Deadline], None] = lambda deadline: None,
        shards: Sequence[Steppable] = (),
    ) -> None:
        limits = config.limits
        self.clock = clock
        self._limits = limits
        self._senders: set[int] = set()
        listener = listen(config)
        self.port: int = listener.getsockname()[1]
        bell = WakeFlag()
        self._parts = contextlib.ExitStack()  # what to undo where a later step fails
        self._parts.callback(listener.close)
        with self._undoing():
            self.pool = WorkerPool(
                limits.calls.workers,
                limits.calls.queue,
                lambda: self.loop.worker_free(),
                limits.logins.login_workers,
                limits.logins.login_queue,
                limits.logins.login_queue_per_address,
                limits.connections.connections,
                len(shards),
            )
            self._pumps = DeliveryThreads(self.pool, shards)
            trusted = [parse_network(text, "trusted_proxies") for text in config.trusted_proxies]
            self.admission = ConnectionLimiter(limits, _files_available(), refusal, trusted)
            self.loop = EventLoop(config, clock, service, self.admission, self.pool, bell.ring, tls)
            self._parts.callback(self.loop.close)
            self._acceptor = Acceptor(listener, self.admission, self._welcome, clock)
            self._parts.callback(self._acceptor.stop, Deadline(clock, 1.0))
            self.supervisor = Watchdog(limits, clock, self.loop, self.pool, self._acceptor, self._pumps, bell, at_end)

    def start(self) -> None:
        """Starts all threads. Raises StartError where there is no room for them; nothing is left running then."""
        with self._undoing():
            self._parts.callback(lambda: self.pool.shutdown(Deadline(self.clock, 1.0)))
            self.pool.start()
            self._parts.callback(self._pumps.stop)
            self._pumps.start()
            self._acceptor.start()
            self.supervisor.start()

    def abandon(self) -> None:
        """Gives back what the constructor took, where `start` is not to be called after all."""
        self._parts.close()

    @contextlib.contextmanager
    def _undoing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._parts.close()
            raise StartError(f"the server could not start: {error}") from error

    def _welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.loop.post(lambda: self.loop.conversation.welcome(sock, address))

    def connections(self) -> list[Connection]:
        """Open WebSocket connections at this moment."""
        return [connection for connection in self.loop.hub.all() if connection.session is not None]

    def send(self, connection_id: int, data: bytes) -> None:
        """Sends whole frames to one client; never waits.

        Raises:
            ConnectionNotFoundError: it has gone.
            OutboxFullError: it does not read, and its outbox is full.
        """
        connection = self.loop.hub.find(connection_id)
        if connection is None:
            raise ConnectionNotFoundError(f"connection {connection_id} is not open")
        if connection.unsent > self._limits.connections.outbox:
            raise OutboxFullError(
                f"connection {connection_id} does not read: {connection.unsent} bytes wait, "
                f"the limit is {self._limits.connections.outbox} (rpcwebsocketoutbox)"
            )
        if self._send(connection, data) is REFUSED:
            raise ConnectionNotFoundError(f"connection {connection_id} is closing")

    def broadcast(self, data: bytes) -> int:
        """Sends the same frames to all clients; returns how many it reached.

        A client whose outbox is full is closed with 4108 instead, so that it knows that it missed something.
        """
        reached = 0
        for connection in self.connections():
            if connection.unsent > self._limits.connections.outbox:
                self._begin_close(
                    connection, CloseCode.FELL_BEHIND, f"past the {limit_reached(self._limits, 'outbox')}"
                )
                continue
            if self._send(connection, data) in (ALL, WAITING):
                reached += 1
        return reached

    def feed(self, connection_id: int) -> ConnectionSubscriber | None:
        """The way of events to one client; None where it has gone."""
        connection = self.loop.hub.find(connection_id)
        return None if connection is None else ConnectionSubscriber(connection, self.clock, self._after_send)

    def close(self, connection_id: int, code: int, reason: str) -> None:
        """Starts the closing handshake with one client. Raises ConnectionNotFoundError where it has gone."""
        connection = self.loop.hub.find(connection_id)
        if connection is None:
            raise ConnectionNotFoundError(f"connection {connection_id} is not open")
        self._begin_close(connection, code, reason)

    def _begin_close(self, connection: Connection, code: int, reason: str) -> None:
        self.loop.post(lambda: self.loop.closing.begin(connection, code, reason))

    def leave(self, connection_id: int, code: int, reason: str) -> None:
        """Closes one client once its running calls are answered; nothing where it has gone."""
        connection = self.loop.hub.find(connection_id)
        if connection is not None:
            self.loop.post(lambda: self.loop.closing.leave(connection, code, reason))

    def can_wait(self) -> bool:
        """Whether the calling thread may wait for the server to stop.

        Not one of the server's own, which it would wait for; and not one that a signal has interrupted while it was
        sending, since the leader may be waiting for what that thread holds.
        """
        thread = threading.get_ident()
        return not (self.pool.is_worker() or self.supervisor.is_reserve() or thread in self._senders)

    def _send(self, connection: Connection, data: bytes) -> SendResult:
        thread = threading.get_ident()
        self._senders.add(thread)
        try:
            sent = connection.send(data, self.clock)
        finally:
            self._senders.discard(thread)
        if sent in (WAITING, BROKEN):
            self._after_send(connection, sent)
        return sent

    def _after_send(self, connection: Connection, sent: SendResult) -> None:
        self.loop.post(lambda: self.loop.conversation.after_send(connection, sent))


def _files_available() -> int:
    """Connections that the process can have open beside the descriptors it has now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        used = _FILES_KEPT
    return max(1, soft - used - _FILES_KEPT)
