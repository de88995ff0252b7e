"""One client's socket: its state, and the only code that writes to it.

    state       meaning                                          next
    PROXIED     accepted, the proxy's header is not whole yet    SECURING, HANDSHAKE, CLOSED
    SECURING    accepted, TLS is being negotiated                HANDSHAKE, DRAINING, CLOSED
    HANDSHAKE   accepted, the HTTP request is not whole yet      OPEN, DRAINING, CLOSED
    OPEN        messages flow both ways                          CLOSING, FINISHING, DRAINING, CLOSED
    CLOSING     our close frame is sent, the peer's awaited      DRAINING, CLOSED
    FINISHING   the peer's close came, answers are outstanding   DRAINING, CLOSED
    DRAINING    we have said all; the peer's end is awaited      CLOSED
    CLOSED      terminal

Invariants
1. Only the leader changes `state`, and does so holding `lock`, so that a writer who holds it sees the truth.
2. Nothing is written behind a close frame: `send` refuses unless the state is OPEN or FINISHING.
3. Bytes leave in the order in which they were given; one thread at a time is in `socket.send`, for it holds `lock`.
4. OpenSSL's objects are not made for two threads at once: with TLS, reading too holds `lock`.
"""

from __future__ import annotations

import socket
import ssl
import threading
from enum import Enum, IntEnum
from typing import Any

from ..protocol.http_connection import HttpConnection
from ..protocol.message_encoder import JSON
from ..protocol.message_parser import Event, MessageParser
from ..protocol.proxy_protocol import ProxyHeader
from ..util.clock import Clock
from .poller import READ
from .tls import WANTS
from .write_buffer import WriteBuffer

__all__ = [
    "ALL",
    "BROKEN",
    "CLOSED",
    "CLOSING",
    "DRAINING",
    "FINISHING",
    "HANDSHAKE",
    "OPEN",
    "PROXIED",
    "REFUSED",
    "SECURING",
    "TRANSITIONS",
    "WAITING",
    "Connection",
    "SendResult",
    "ConnectionState",
]


_TLS_RECORD = 16384
_WOULD_BLOCK = (BlockingIOError, InterruptedError, *WANTS)


class ConnectionState(Enum):
    """Where a connection is in its life; see the table above."""

    PROXIED = "proxied"
    SECURING = "securing"
    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    FINISHING = "finishing"
    DRAINING = "draining"
    CLOSED = "closed"


TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.PROXIED: frozenset({ConnectionState.SECURING, ConnectionState.HANDSHAKE, ConnectionState.CLOSED}),
    ConnectionState.SECURING: frozenset({ConnectionState.HANDSHAKE, ConnectionState.DRAINING, ConnectionState.CLOSED}),
    ConnectionState.HANDSHAKE: frozenset({ConnectionState.OPEN, ConnectionState.DRAINING, ConnectionState.CLOSED}),
    ConnectionState.OPEN: frozenset(
        {ConnectionState.CLOSING, ConnectionState.FINISHING, ConnectionState.DRAINING, ConnectionState.CLOSED}
    ),
    ConnectionState.CLOSING: frozenset({ConnectionState.DRAINING, ConnectionState.CLOSED}),
    ConnectionState.FINISHING: frozenset({ConnectionState.DRAINING, ConnectionState.CLOSED}),
    ConnectionState.DRAINING: frozenset({ConnectionState.CLOSED}),
    ConnectionState.CLOSED: frozenset(),
}


class SendResult(IntEnum):
    """What became of bytes that were given to a connection."""

    ALL = 0
    """They are with the system."""
    WAITING = 1
    """Some are in the outbox; the leader must wait for the socket to take more."""
    BROKEN = 2
    """The socket failed; the leader must close it."""
    REFUSED = 3
    """The connection takes no more messages."""


PROXIED, SECURING, HANDSHAKE, OPEN, CLOSING, FINISHING, DRAINING, CLOSED = ConnectionState
ALL, WAITING, BROKEN, REFUSED = SendResult
"""Short names, for what is done with every message: before Python 3.12, `ConnectionState.OPEN` takes a microsecond."""


class Connection:
    """One client. Attributes without a note are the leader's alone.

    Attributes:
        id: its number, never used twice by one server.
        fd: the descriptor of its socket.
        address: the client's IP address and port; where a trusted proxy has told them, those.
        proxy_header: what has come of the PROXY protocol's header; None where none is awaited.
        lock: guards `outbox`, writing to the socket, and changes of `state`.
        outbox: what the socket would not take yet; None where there is nothing. Guarded by `lock`.
        upgrade: the HTTP stage, from its first byte to its end.
        stream: the message stage, once open.
        session: what the service made of this client, once open.
        framing: how its messages leave; set before it is open.
        metered: whether the service is told of the bytes that come.
        interest: what the poller waits for.
        in_flight: calls in the pool that are not answered yet.
        serial: whether something must end before the next bytes are looked at: a raw message, or a login.
        backlog: received events that must wait because too much is in flight or unsent.
        opened_at, heard_at: when the connection was accepted, and when bytes last came.
        ping_at: when a ping was sent that nothing has answered yet, else 0.
        secure: whether the socket speaks TLS.
        sent: bytes that the socket has taken. Guarded by `lock`.
        stepping: whether a worker is in a step of the TLS handshake, so that it closes the socket. Guarded by `lock`.
        wants: what the TLS handshake waits for, READ or WRITE.
        deadline: when the present state must have ended; while OPEN, when the client must have authenticated.
        timer_at: the moment for which the leader has a timer; one at an earlier moment is the only other that counts.
        leaving: close code and reason, where the connection shall close once its calls are answered.
        end: close code and reason, once they are known.
    """

    __slots__ = (
        "address",
        "backlog",
        "deadline",
        "end",
        "fd",
        "framing",
        "heard_at",
        "id",
        "in_flight",
        "interest",
        "leaving",
        "lock",
        "metered",
        "opened_at",
        "outbox",
        "ping_at",
        "proxy_header",
        "secure",
        "sent",
        "serial",
        "session",
        "sock",
        "state",
        "stepping",
        "stream",
        "timer_at",
        "upgrade",
        "wants",
    )

    def __init__(self, id: int, sock: socket.socket, address: tuple[str, int], now: float) -> None:
        self.id = id
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self.lock = threading.Lock()
        self.state = HANDSHAKE
        self.outbox: WriteBuffer | None = None
        self.upgrade: HttpConnection | None = None
        self.stream: MessageParser | None = None
        self.session: Any = None
        self.framing = JSON
        self.interest = 0
        self.in_flight = 0
        self.serial = False
        self.metered = False
        self.secure = False
        self.sent = 0
        self.stepping = False
        self.wants = READ
        self.proxy_header: ProxyHeader | None = None
        self.backlog: list[Event] | None = None
        self.opened_at = now
        self.heard_at = now
        self.ping_at = 0.0
        self.deadline = 0.0
        self.timer_at = 0.0
        self.leaving: tuple[int, str] | None = None
        self.end: tuple[int, str] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.state.value} {self.address[0]}:{self.address[1]}>"

    @property
    def is_closed(self) -> bool:
        """Whether it has come to its end."""
        return self.state is CLOSED

    def become(self, state: ConnectionState) -> None:
        """Changes the state; requires holding `lock`, for invariant 1."""
        assert self.lock.locked()
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state

    def send(self, data: bytes, clock: Clock) -> SendResult:
        """Sends whole frames, from any thread and without waiting; what the socket won't take goes to the outbox."""
        with self.lock:
            if self.state is not OPEN and self.state is not FINISHING:
                return REFUSED
            return self.write(data, clock)

    def write(self, data: bytes | memoryview, clock: Clock) -> SendResult:
        """What `send` does once the state allows it; requires holding `lock`."""
        if self.outbox is not None:
            self.outbox.append(data)
            return WAITING
        try:
            sent = self.sock.send(data)
        except _WOULD_BLOCK:
            sent = 0
        except OSError:
            return BROKEN
        self.sent += sent
        if sent == len(data):
            return ALL
        self.outbox = WriteBuffer(clock())
        self.outbox.append(memoryview(data)[sent:])
        return WAITING

    def flush(self, now: float) -> SendResult:
        """Sends what the outbox has; returns ALL, WAITING or BROKEN."""
        with self.lock:
            if self.outbox is None:
                return ALL
            try:
                drained = self.outbox.drain(self._send_some, now)
            except OSError:
                return BROKEN
            if drained:
                self.outbox = None
            return ALL if drained else WAITING

    def _send_some(self, data: bytes | memoryview) -> int:
        """How many bytes the socket took: 0 where it would block. Raises OSError where it is of no more use."""
        try:
            sent = self.sock.send(data)
        except _WOULD_BLOCK:
            return 0
        self.sent += sent
        return sent

    @property
    def unsent(self) -> int:
        """Bytes in the outbox."""
        outbox = self.outbox
        return 0 if outbox is None else outbox.size

    def receive(self, size: int) -> bytes:
        """Reads what there is, about `size` bytes at most.

        Returns:
            The bytes; none at the end of the stream.

        Raises:
            BlockingIOError: there is nothing to read now.
            OSError: the socket is of no more use.
        """
        if not self.secure:
            return self.sock.recv(size)
        pieces: list[bytes] = []
        with self.lock:  # invariant 4
            # To the end of what OpenSSL holds: the poller is silent about bytes that have left the kernel.
            while size > 0:
                try:
                    piece = self.sock.recv(min(size, _TLS_RECORD))
                except (BlockingIOError, *WANTS):
                    break
                except OSError:
                    if not pieces:
                        raise
                    break  # what came before counts; the next read meets the fault again
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                size -= len(piece)
        if not pieces:
            raise BlockingIOError
        return b"".join(pieces)

    @property
    def peer_has_gone(self) -> bool:
        """Whether the peer's end of the stream is all that is there to read; from any thread."""
        with self.lock:  # so that the socket is not closed meanwhile
            if self.state is CLOSED:
                return True
            try:
                return not socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True

    @property
    def has_more(self) -> bool:
        """Whether OpenSSL holds bytes that the poller can't know of."""
        if not self.secure or self.state is CLOSED:
            return False
        assert isinstance(self.sock, ssl.SSLSocket)
        with self.lock:  # invariant 4
            return self.sock.pending() > 0
