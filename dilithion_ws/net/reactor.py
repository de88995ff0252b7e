"""What the leading thread owns: the poller, the timers, and the deadlines of calls. No other thread changes them."""

from __future__ import annotations

from ..config.config import Config
from ..config.limits import limit_reached
from ..protocol.deflate import Deflater
from ..protocol.http import HttpRefusal
from ..util.clock import Clock
from ..util.thread_contracts import any_thread, leader_only
from .call_deadlines import CallDeadlines
from .connection import (
    BROKEN,
    BUFFERED,
    CLOSED,
    HTTP,
    OPEN,
    READ_SIZE,
    TLS_HANDSHAKE,
    Connection,
    SendResult,
)
from .connection_limiter import ConnectionLimiter
from .connection_registry import ConnectionRegistry
from .interfaces import Address, Service
from .poller import READ, WRITE, make_poller
from .timer_queue import TimerQueue
from .unadmitted_connections import UnadmittedConnections

__all__ = ["Reactor"]

_MOST_OBSOLETE = 512
"""Obsolete timers that may wait for their time, beyond two for each connection. Each keeps a closed connection, of about
1.3 KB: at 2,000 connections per second these were 55 MB."""


class Reactor:
    """State of one running server that is shared by the steps of the leader.

    Args:
        config: limits, and what is offered to clients.
        clock: seconds that never go backwards.
        service: the application.
        registry: the connections by number.
        limiter: the count of connections.

    Attributes:
        mailbox: commands of other threads.
        now: the clock at the beginning of the present turn of the loop.
        leader: the identifier of the leading thread, or None.
        fast_calls_only: whether only methods declared fast may run, since no worker could take over from this leader.
        timers: when to look at a connection.
        calls: pending calls by their deadline. All have the same timeout, so the oldest is the first.
        unpolled: connections that may have bytes which the poller does not report, since OpenSSL or a parser holds them;
            a dict, so that none is in it twice.
        waiting: unadmitted connections that are ready, in the order in which they will be served, and their masks.
        unadmitted: connections that have yet to log in, or to upgrade if they need not.
        by_fd: connections by descriptor. Compare identities: after a close, a number is used again.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        service: Service,
        registry: ConnectionRegistry,
        limiter: ConnectionLimiter,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.clock = clock
        self.service = service
        self.registry = registry
        self.limiter = limiter
        self.mailbox = registry.mailbox
        self.now = clock()
        self.leader: int | None = None
        self.fast_calls_only = False
        self.timers: TimerQueue[Connection] = TimerQueue()
        self.calls = CallDeadlines()
        self.unpolled: dict[Connection, None] = {}
        self.waiting: dict[Connection, int] = {}
        self.by_fd: dict[int, Connection] = {}
        self.unadmitted = UnadmittedConnections(
            config.limits.logins.unauthenticated_connections,
            config.limits.connections.handshake_timeout / 10,
            self.waiting,
        )
        deflate = config.limits.deflate
        self.deflater = Deflater(
            deflate.deflate_window, deflate.deflate_level, deflate.deflate_memory, deflate.deflate_minimum
        )
        self._message_too_big = limit_reached(config.limits, "message_size")
        self._max_in_flight = config.limits.calls.in_flight
        self._max_unsent = config.limits.connections.outbox
        self.poller = make_poller()
        self.poller.set_interest(self.mailbox.waker.fd, 0, READ)

    # Connections

    @leader_only
    def add(self, connection: Connection) -> None:
        """Start to watch a new connection."""
        self.set_deadline(connection, self.limits.connections.handshake_timeout)
        self.by_fd[connection.fd] = connection
        self.registry.add(connection)
        self.update_interest(connection)

    @leader_only
    def admit(self, connection: Connection) -> None:
        """Lift the limits for clients that have yet to log in."""
        self.unadmitted.discard(connection)
        connection.is_admitted = True
        connection.read_size = READ_SIZE
        if connection.parser is not None:
            limits = self.limits
            connection.parser.lift(
                limits.messages.message_size, self._message_too_big, limits.connections.frames_per_turn
            )

    @leader_only
    def remove(self, connection: Connection) -> None:
        """Forget a connection: it is not polled, found or counted any more. Its socket is still open (invariant 5)."""
        if connection.interest:
            self.poller.set_interest(connection.fd, connection.interest, 0)
            connection.interest = 0
        del self.by_fd[connection.fd]
        self.registry.remove(connection)
        self.limiter.release(connection.address[0])

    @leader_only
    def client_of(self, connection: Connection, forwarded: str | None) -> Address | HttpRefusal:
        """Return the client of a request: the connection's, or the one that a trusted proxy names.

        Args:
            connection: where the request arrived.
            forwarded: its X-Forwarded-For header, or None.
        """
        host, port = connection.address
        if forwarded is None or not self.limiter.is_trusted_proxy(host):
            return host, port
        client = self.limiter.forwarded_client(host, forwarded)
        if client is None:
            return HttpRefusal(400, "X-Forwarded-For contains something that is not an address")
        return client, port

    @leader_only
    def reassign_address(self, connection: Connection, client: Address) -> HttpRefusal | None:
        """Count a proxy's connection as one of its client. Return why that client may not connect, or None."""
        refusal = self.limiter.reassign(connection.address[0], client[0])
        if refusal is None:
            connection.address = client
        return refusal

    # Polling

    @leader_only
    def update_interest(self, connection: Connection) -> None:
        """Recompute what a connection is polled for. Nothing else may change it.

        READ and WRITE are decided together and from the state alone. So a connection that is paused is not registered at
        all: with a level-triggered poller it would wake the leader over and over again.
        """
        if connection.state is CLOSED:
            return
        if connection.state is TLS_HANDSHAKE and not connection.is_paused:
            interest = connection.tls_interest
        else:
            interest = WRITE if connection.write_buffer is not None else 0
            if not self.is_paused(connection):
                interest |= READ
        if interest != connection.interest:
            self.poller.set_interest(connection.fd, connection.interest, interest)
            resumed = interest & ~connection.interest & READ
            connection.interest = interest
            if resumed and (connection.is_tls or connection.has_more):
                self.unpolled[connection] = None  # bytes may have been decrypted, or left to parse, before the pause

    @leader_only
    def read_again(self, connection: Connection) -> None:
        """Give a connection, whose parser holds more bytes, another turn after the others had theirs."""
        connection.has_more = True
        self.unpolled[connection] = None

    @leader_only
    def is_paused(self, connection: Connection) -> bool:
        """Return whether a client must wait: too much of it is in flight, unsent or not looked at."""
        if connection.state in (TLS_HANDSHAKE, HTTP):
            # Requests are answered one by one: nothing is read, and so kept, behind a response that is not sent yet.
            return connection.is_paused or connection.write_buffer is not None
        return connection.state is OPEN and (
            connection.is_paused
            or self.registry.is_stopping
            or connection.close_when_idle is not None
            or connection.deferred_events is not None
            or connection.in_flight >= self._max_in_flight
            or connection.unsent > self._max_unsent
        )

    @leader_only
    def set_deadline(self, connection: Connection, seconds: float) -> None:
        """Give the present state of a connection a deadline, which replaces that of the state before."""
        connection.deadline = self.now + seconds
        connection.timer_at = 0.0
        self.schedule(connection, connection.deadline)

    @leader_only
    def schedule(self, connection: Connection, at: float) -> None:
        """Look at a connection no later than `at`."""
        if not connection.timer_at or at < connection.timer_at:
            connection.timer_at = at
            timers = self.timers
            timers.add(at, connection)
            if len(timers) > 2 * len(self.by_fd) + _MOST_OBSOLETE:
                timers.prune()

    @leader_only
    def timeout(self) -> float | None:
        """Return the seconds until something is due, or None if nothing ever is."""
        now = self.clock()
        timeout = self.timers.timeout(now)
        if self.calls.timeouts:
            first = max(0.0, self.calls.first() - now)
            return first if timeout is None else min(first, timeout)
        return timeout

    @leader_only
    def after_send(self, connection: Connection, result: SendResult) -> bool:
        """Wait until the socket is writable, if bytes are buffered. Return False if the connection must be dropped."""
        if result is BUFFERED:
            self.schedule(connection, self.now + self.limits.connections.write_stall)
            self.update_interest(connection)
        return result is not BROKEN

    @any_thread
    def close(self) -> None:
        """Close the descriptors, after the loop has ended."""
        self.poller.close()
        self.mailbox.close()
