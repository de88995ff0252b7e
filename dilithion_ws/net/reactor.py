"""What the leading worker owns: the connections, the poller and the timers. Nobody else changes them.

Other threads may look a connection up (`find`, `all`): reading a dictionary is safe while the leader changes it.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from ..config.config import Config
from ..protocol.deflate import Deflater
from ..protocol.http_connection import HttpRefusal
from ..util.clock import Clock
from .connection import BROKEN, CLOSED, FINISHING, HANDSHAKE, OPEN, SECURING, WAITING, Connection, SendResult
from .connection_limiter import ConnectionLimiter
from .interfaces import Service
from .pending_call import PendingCall
from .poller import READ, WRITE, make_poller
from .timer_queue import TimerQueue

__all__ = ["Reactor"]


class Reactor:
    """State of one running server, shared by the steps that the leader takes.

    Attributes:
        stopping: no new work is taken.
        now: the clock as of the leader's last look.
        timers: when to look at a connection.
        calls: calls in the pool, by their deadline: all have the same time, so the oldest is the first.
        deflation: how messages are deflated where that was agreed on.
        unread: connections of which OpenSSL may hold bytes that the poller is silent about.
        bytes_in: bytes received so far.
        bytes_out: bytes sent so far over connections that have gone.
        by_fd: connections by their descriptor; compare identities, for a number is used again after a close.
    """

    def __init__(self, config: Config, clock: Clock, service: Service, admission: ConnectionLimiter) -> None:
        limits = self.limits = config.limits
        self.http, self.offers_deflate = config.http, config.deflate
        self.clock = clock
        self.service = service
        self.admission = admission
        self.poller = make_poller()
        self.timers: TimerQueue[Connection] = TimerQueue()
        self.calls: OrderedDict[PendingCall, float] = OrderedDict()
        self.by_fd: dict[int, Connection] = {}
        self._by_id: dict[int, Connection] = {}
        self.deflation = Deflater(
            limits.deflate.deflate_window,
            limits.deflate.deflate_level,
            limits.deflate.deflate_memory,
            limits.deflate.deflate_minimum,
        )
        self.unread: deque[Connection] = deque()
        self.bytes_in = 0
        self.bytes_out = 0
        self.stopping = False
        self.now = clock()

    def find(self, connection_id: int) -> Connection | None:
        """The connection of this number, from any thread; None where it has gone, or is no WebSocket yet."""
        connection = self._by_id.get(connection_id)
        return connection if connection is not None and connection.session is not None else None

    def all(self) -> list[Connection]:
        """All connections, from any thread."""
        return list(self._by_id.values())

    def add(self, connection: Connection) -> None:
        """Takes a new connection in, and waits for its first bytes."""
        connection.deadline = self.now + self.limits.connections.handshake_timeout
        self.schedule(connection, connection.deadline)
        self.by_fd[connection.fd] = connection
        self._by_id[connection.id] = connection
        self.arm(connection)

    def remove(self, connection: Connection) -> None:
        """Forgets a connection: not waited for, not found, not counted. Its socket is still open then."""
        fd = connection.fd
        if connection.interest:
            self.poller.set_interest(fd, connection.interest, 0)
            connection.interest = 0
        del self.by_fd[fd]
        del self._by_id[connection.id]
        self.bytes_out += connection.sent
        self.admission.release(connection.address[0])

    def readmit(self, connection: Connection, client: tuple[str, int]) -> HttpRefusal | None:
        """Takes a proxy's word for whose connection it is; returns why that client may not connect."""
        refusal = self.admission.reenter(connection.address[0], client[0])
        if refusal is None:
            connection.address = client
        return refusal

    def client_of(self, connection: Connection, forwarded: str | None) -> tuple[str, int] | HttpRefusal:
        """Whose request it is: that of a trusted proxy may be of the client that the proxy names."""
        host, port = connection.address
        if forwarded is None or not self.admission.trusts(host):
            return host, port
        client = self.admission.client_of(host, forwarded)
        return (
            HttpRefusal(400, "X-Forwarded-For has something that is no address") if client is None else (client, port)
        )

    def arm(self, connection: Connection) -> None:
        """Makes the poller wait for what the connection can use now: the one place where interest is decided."""
        if connection.state is CLOSED:
            return
        if connection.state is SECURING and not connection.serial:
            interest = connection.wants
        else:
            interest = WRITE if connection.outbox is not None else 0
            if connection.state is not FINISHING and not self.must_wait(connection):
                interest |= READ
        if interest != connection.interest:
            self.poller.set_interest(connection.fd, connection.interest, interest)
            again = interest & ~connection.interest & READ
            connection.interest = interest
            if again and connection.secure:
                self.unread.append(connection)

    def must_wait(self, connection: Connection) -> bool:
        """Whether what a client sends has to wait: too much of it is in flight, unsent or not looked at."""
        if connection.state in (SECURING, HANDSHAKE):
            return connection.serial
        return connection.state is OPEN and (
            connection.serial
            or self.stopping
            or connection.leaving is not None
            or connection.backlog is not None
            or connection.in_flight >= self.limits.calls.in_flight
            or connection.unsent > self.limits.connections.outbox
        )

    def schedule(self, connection: Connection, at: float) -> None:
        """Makes sure that the connection is looked at no later than `at`."""
        if not connection.timer_at or at < connection.timer_at:
            connection.timer_at = at
            self.timers.add(at, connection)

    def timeout(self) -> float | None:
        """Seconds until something is due, None where nothing ever is."""
        now = self.clock()
        timeout = self.timers.timeout(now)
        if self.calls:
            first = max(0.0, next(iter(self.calls.values())) - now)
            return first if timeout is None else min(first, timeout)
        return timeout

    def after_send(self, connection: Connection, sent: SendResult) -> bool:
        """Does what a send leaves to be done; False where the connection has to be dropped."""
        if sent is WAITING:
            self.schedule(connection, self.now + self.limits.connections.write_stall)
            self.arm(connection)
        return sent is not BROKEN
