"""One client's socket: its state, and the only code that writes to it.

    state             meaning                                              next
    PROXY_HEADER      accepted; the proxy's header is not complete yet     TLS_HANDSHAKE, HTTP, CLOSED
    TLS_HANDSHAKE     accepted; TLS is being negotiated                    HTTP, DRAINING, CLOSED
    HTTP              an HTTP request is being received or answered        OPEN, DRAINING, CLOSED
    OPEN              messages are sent and received                       CLOSING, DRAINING, CLOSED
    CLOSING           our close frame is queued, the peer's is awaited     DRAINING, CLOSED
    DRAINING          everything is queued; the peer's end is awaited      CLOSED
    CLOSED            terminal

Invariants
1. Only the leader changes `state`, and holds `lock` while it does. So a writer that holds `lock` sees the true state.
2. Nothing is written after a close frame: `send` refuses unless the state is OPEN.
3. Bytes are sent in the order in which they were given, and one thread at a time is in `socket.send`: it holds `lock`.
   Once there is a write buffer, everything goes through it, and the leader drains it when the socket is writable.
4. OpenSSL's objects do not tolerate two threads at once (cpython issue 151508): over TLS, reading holds `lock` too.
5. CLOSED is never left, and its descriptor is never armed again. The order is always unregister, shutdown, close: a
   closed descriptor's number may be in use by a stranger at once, and the poller must not report on it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from enum import Enum
from typing import Protocol

from ..errors import CloseStatus
from ..protocol.http import HttpResponse
from ..protocol.http_connection import HttpConnection
from ..protocol.message_encoder import JSON
from ..protocol.message_parser import MessageEvent, MessageParser
from ..protocol.proxy_protocol import ProxyHeader
from ..session import Session
from ..util.clock import Clock
from ..util.thread_contracts import any_thread, leader_only, requires
from .interfaces import Address, Admission, EarlierBroadcasts
from .poller import READ
from .tls import WANTS
from .write_buffer import WriteBuffer

__all__ = [
    "BROKEN",
    "BUFFERED",
    "CLOSED",
    "CLOSING",
    "DRAINING",
    "HTTP",
    "OPEN",
    "PROXY_HEADER",
    "READ_SIZE",
    "REFUSED",
    "SENT",
    "TLS_HANDSHAKE",
    "TRANSITIONS",
    "Connection",
    "ConnectionState",
    "SendResult",
]

READ_SIZE = 65536
"""Bytes that are read at once from a client that was admitted."""

_READ_SIZE_BEFORE = 4096
_TLS_RECORD = 16384
_WOULD_BLOCK = (BlockingIOError, InterruptedError, *WANTS)


class PendingAnswer(Protocol):
    """An HTTP request whose answer is worked out elsewhere; implemented by `PendingRequest`."""

    def cancel(self) -> None:
        """Cancel the future that the answer waits for, if there is one."""

    def expire(self) -> HttpResponse:
        """Return the response to send when the deadline has passed."""


class ConnectionState(Enum):
    """See the table above. The values are labels of `/metrics`, which keep the names of the first version."""

    PROXY_HEADER = "proxied"
    TLS_HANDSHAKE = "securing"
    HTTP = "handshake"
    OPEN = "open"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


PROXY_HEADER, TLS_HANDSHAKE, HTTP, OPEN, CLOSING, DRAINING, CLOSED = ConnectionState

TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    PROXY_HEADER: frozenset({TLS_HANDSHAKE, HTTP, CLOSED}),
    TLS_HANDSHAKE: frozenset({HTTP, DRAINING, CLOSED}),
    HTTP: frozenset({OPEN, DRAINING, CLOSED}),
    OPEN: frozenset({CLOSING, DRAINING, CLOSED}),
    CLOSING: frozenset({DRAINING, CLOSED}),
    DRAINING: frozenset({CLOSED}),
    CLOSED: frozenset(),
}


class SendResult(Enum):
    """The result of sending bytes to a connection."""

    SENT = "sent"
    """The operating system has all of them."""
    BUFFERED = "buffered"
    """Some are in the write buffer; the leader must wait until the socket is writable."""
    BROKEN = "broken"
    """The socket failed; the leader must drop the connection."""
    REFUSED = "refused"
    """The connection accepts no more messages; nothing was sent."""


SENT, BUFFERED, BROKEN, REFUSED = SendResult

CHECKED = -1
"""See `Connection.hello_size`."""


class Connection:
    """One client. Attributes without a note belong to the leader.

    Args:
        id: its number; a server never uses a number twice.
        sock: a non-blocking socket.
        address: the client's IP address and port.
        clock: seconds that never go backwards.

    Attributes:
        fd: the descriptor of its socket.
        address: the client's; if a trusted proxy has named the client, that one.
        lock: guards `write_buffer`, `bytes_sent`, writing to the socket, and changes of `state`.
        write_buffer: what the socket has not accepted yet, or None. Guarded by `lock`.
        bytes_sent: bytes that the socket has accepted. Guarded by `lock`.
        broadcasts: what the host sends to all clients; set before it is open.
        broadcast_at: the number of the last broadcast that was sent to it. Guarded by `lock`.
        proxy_header: the received part of the PROXY protocol header, or None.
        http: the HTTP stage, until the upgrade.
        admission: the decision on the HTTP request whose body is being received, or None.
        parser: the WebSocket stage, from the upgrade on.
        session: the client's session, from the upgrade on.
        encoder: how its messages are encoded; set before it is open.
        read_size: bytes to read at once: few before the client was admitted, since they may have to be kept.
        interest: what the poller waits for.
        has_more: whether its parser holds bytes that it can go on with, since it looks at a bounded number of pieces in a
            turn.
        is_admitted: whether it has logged in, or need not and has upgraded or sent a request. Others wait for their turn.
        in_flight: calls that are not answered yet.
        is_paused: whether a task must end before more bytes are read: a login, a raw message, an HTTP request, or a step
            of the TLS handshake.
        deferred_events: received events that must wait because too much is in flight or unsent.
        opened_at, last_received_at: when the connection was accepted, and when bytes last arrived.
        ping_at: when a ping was sent that was not answered yet, or 0.
        is_tls: whether the socket is a TLS socket.
        in_tls_step: whether a worker is in a step of the TLS handshake; then the worker closes the socket. Guarded by
            `lock`.
        hello_size: bytes of the first TLS message that the handshake waits for: 0 before it has begun, CHECKED after it.
        certificate: the SHA-256 of the client certificate that was verified, or empty.
        tls_interest: what the TLS handshake waits for, READ or WRITE.
        deadline: when the present state must have ended; while OPEN, when the client must have authenticated.
        timer_at: the earliest time for which there is a timer, or 0.
        close_when_idle: how to close it once its calls are answered, or None.
        close_status: how it ends, once that is known.
        pending_request: the present HTTP request, if its answer is worked out elsewhere.
    """

    __slots__ = (
        "_clock",
        "address",
        "admission",
        "broadcast_at",
        "broadcasts",
        "bytes_sent",
        "certificate",
        "close_status",
        "close_when_idle",
        "deadline",
        "deferred_events",
        "encoder",
        "fd",
        "has_more",
        "hello_size",
        "http",
        "id",
        "in_flight",
        "in_tls_step",
        "interest",
        "is_admitted",
        "is_paused",
        "is_tls",
        "last_received_at",
        "lock",
        "opened_at",
        "parser",
        "pending_request",
        "ping_at",
        "proxy_header",
        "read_size",
        "session",
        "sock",
        "state",
        "timer_at",
        "tls_interest",
        "write_buffer",
    )

    def __init__(self, id: int, sock: socket.socket, address: Address, clock: Clock) -> None:
        self.id = id
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self._clock = clock
        self.lock = threading.Lock()
        self.state = HTTP
        self.write_buffer: WriteBuffer | None = None
        self.http: HttpConnection | None = None
        self.admission: Admission | None = None
        self.parser: MessageParser | None = None
        self.session: Session | None = None
        self.encoder = JSON
        self.interest = 0
        self.has_more = False
        self.is_admitted = False
        self.in_flight = 0
        self.is_paused = False
        self.is_tls = False
        self.bytes_sent = 0
        self.broadcasts: EarlierBroadcasts | None = None
        self.broadcast_at = 0
        self.read_size = _READ_SIZE_BEFORE
        self.in_tls_step = False
        self.tls_interest = READ
        self.hello_size = 0
        self.certificate = b""
        self.proxy_header: ProxyHeader | None = None
        self.deferred_events: list[MessageEvent] | None = None
        self.opened_at = clock()
        self.last_received_at = self.opened_at
        self.ping_at = 0.0
        self.deadline = 0.0
        self.timer_at = 0.0
        self.close_when_idle: CloseStatus | None = None
        self.close_status: CloseStatus | None = None
        self.pending_request: PendingAnswer | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.id} {self.state.value} {self.address[0]}:{self.address[1]}>"

    @property
    def is_closed(self) -> bool:
        """Whether the state is CLOSED."""
        return self.state is CLOSED

    @requires("lock")
    def transition(self, state: ConnectionState) -> None:
        """Change the state (invariant 1)."""
        assert state in TRANSITIONS[self.state], f"{self!r} can't become {state.value}"
        self.state = state

    # Sending

    @any_thread
    def send(self, data: bytes) -> SendResult:
        """Send whole frames without blocking. What the socket does not accept goes to the write buffer.

        What was broadcast before is sent first: the answer of a handler that broadcasts follows its broadcast.
        """
        if self.broadcasts is not None and self.broadcast_at != self.broadcasts.head:
            self.broadcasts.deliver(self)
        with self.lock:
            return self.write(data) if self.state is OPEN else REFUSED

    @any_thread
    def send_control(self, data: bytes) -> SendResult:
        """Do what `send` does, without what was broadcast before: a ping must not fill the write buffer."""
        with self.lock:
            return self.write(data) if self.state is OPEN else REFUSED

    @requires("lock")
    def write(self, data: bytes | memoryview) -> SendResult:
        """Do what `send` does once the state allows it."""
        if self.write_buffer is not None:
            self.write_buffer.append(data)
            return BUFFERED
        try:
            accepted = self.sock.send(data)
        except _WOULD_BLOCK:
            accepted = 0
        except OSError:
            return BROKEN
        self.bytes_sent += accepted
        if accepted == len(data):
            return SENT
        self.write_buffer = WriteBuffer(self._clock())
        self.write_buffer.append(memoryview(data)[accepted:])
        return BUFFERED

    @leader_only
    def flush(self, now: float) -> SendResult:
        """Send what is in the write buffer. Return SENT, BUFFERED or BROKEN."""
        with self.lock:
            if self.write_buffer is None:
                return SENT
            try:
                is_empty = self.write_buffer.drain(self._send_some, now)
            except OSError:
                return BROKEN
            if is_empty:
                self.write_buffer = None
            return SENT if is_empty else BUFFERED

    @requires("lock")
    def _send_some(self, data: bytes | memoryview) -> int:
        """Return how many bytes the socket accepted; 0 if it would block."""
        try:
            accepted = self.sock.send(data)
        except _WOULD_BLOCK:
            return 0
        self.bytes_sent += accepted
        return accepted

    @property
    def unsent(self) -> int:
        """Bytes in the write buffer."""
        write_buffer = self.write_buffer
        return 0 if write_buffer is None else write_buffer.size

    # Receiving

    @leader_only
    def receive(self, size: int) -> bytes:
        """Read what is available, about `size` bytes at most. Return b"" at the end of the stream.

        Raises:
            BlockingIOError: nothing is available.
            OSError: the socket cannot be used any more.
        """
        return self._receive_tls(size) if self.is_tls else self.sock.recv(size)

    def _receive_tls(self, size: int) -> bytes:
        """Read until OpenSSL has no more: the poller does not report bytes that have left the kernel.

        If `size` ends the loop before that, `holds_bytes` is true and the leader reads again without a poll.
        """
        pieces: list[bytes] = []
        with self.lock:  # invariant 4
            while size > 0:
                try:
                    piece = self.sock.recv(min(size, _TLS_RECORD))
                except (BlockingIOError, *WANTS):
                    break
                except OSError:
                    if not pieces:
                        raise
                    break  # what arrived earlier counts; the next read meets the error again
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                size -= len(piece)
        if not pieces:
            raise BlockingIOError
        return b"".join(pieces)

    @property
    def holds_bytes(self) -> bool:
        """Whether OpenSSL or a parser holds bytes that the poller does not report."""
        if self.has_more or self.state is CLOSED:
            return self.state is not CLOSED
        if not self.is_tls:
            return False
        assert isinstance(self.sock, ssl.SSLSocket)
        with self.lock:  # invariant 4
            return self.sock.pending() > 0

    @any_thread
    def has_disconnected(self) -> bool:
        """Return whether the peer's end of stream is the only thing left to read."""
        with self.lock:  # so that the socket is not closed meanwhile
            if self.state is CLOSED:
                return True
            try:
                return not socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                return True
