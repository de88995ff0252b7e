"""How connections end (RFC 6455 sections 5.5.1 and 7). For the leading thread.

Every end is one of these:

    start_close    our close frame, then the peer's                           OPEN → CLOSING → DRAINING → CLOSED
    on_close       the peer's close frame is answered at once                 OPEN → DRAINING → CLOSED
    fail           the peer violated the protocol: our close frame, no wait   OPEN → DRAINING → CLOSED
    refuse         an HTTP response that is not an upgrade                    HTTP → DRAINING → CLOSED
    abort          nothing can be sent any more                               any → CLOSED

The server closes TCP first (section 7.1.1), but gives the peer a moment to close: if data arrives after a plain close,
the system resets the connection, and the peer may lose the close frame to that.
"""

from __future__ import annotations

import math
import socket
import ssl

from ..errors import CloseCode, CloseStatus
from ..protocol.frames import CLOSE, close_payload, encode_frame, parse_close_payload
from ..protocol.http import HttpRefusal, HttpResponse
from ..util.http_date import http_date
from ..util.thread_contracts import leader_only
from .connection import (
    CLOSED,
    CLOSING,
    DRAINING,
    HTTP,
    OPEN,
    PROXY_HEADER,
    TLS_HANDSHAKE,
    Connection,
    ConnectionState,
)
from .reactor import Reactor

__all__ = ["CloseHandshake"]

_LOST = CloseStatus(CloseCode.ABNORMAL, "")


class CloseHandshake:
    """Ends connections.

    Args:
        reactor: the connections.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    @leader_only
    def start_close(self, connection: Connection, status: CloseStatus) -> None:
        """Start the close handshake from our side. Do nothing if it has started already."""
        if connection.state in (PROXY_HEADER, TLS_HANDSHAKE):
            self.abort(connection)
        elif connection.state is HTTP:
            if connection.pending_request is None:  # otherwise the connection ends with the answer to it
                self.refuse_or_end(connection, HttpRefusal(503, status.reason))
        elif connection.state is OPEN:
            broadcasts = self._reactor.registry.broadcasts
            if not broadcasts.deliver(connection):
                status = broadcasts.fell_behind
            connection.close_status = status
            if self._send_final(connection, encode_frame(CLOSE, close_payload(*status)), CLOSING):
                connection.deferred_events = None
                if connection.parser is not None and connection.parser.ended:
                    self.drain(connection)  # the peer's close frame was among the deferred events
                else:
                    self._wait(connection, self._reactor.limits.connections.close_timeout)

    @leader_only
    def close_when_idle(self, connection: Connection, status: CloseStatus) -> None:
        """Start the close handshake once running calls are answered. Accept no further ones."""
        if connection.in_flight and connection.state is OPEN:
            connection.close_when_idle = status
            self._reactor.update_interest(connection)
        else:
            self.start_close(connection, status)

    @leader_only
    def on_close(self, connection: Connection, payload: bytes) -> None:
        """Answer the peer's close frame "as soon as practical", with its code (section 5.5.1).

        Calls in flight are not waited for: their handlers run on, and their answers are dropped.
        """
        if connection.state is not CLOSING:  # otherwise it answers ours
            connection.close_status = parse_close_payload(payload)
            code = connection.close_status.code
            answer = close_payload(None if code == CloseCode.NO_STATUS else code)
            if self._send_final(connection, encode_frame(CLOSE, answer), DRAINING):
                self._flush(connection)
        else:
            self.drain(connection)

    @leader_only
    def fail(self, connection: Connection, payload: bytes) -> None:
        """Send a close frame with this payload after an error, and read nothing more (section 7.1.7)."""
        if connection.state in (PROXY_HEADER, TLS_HANDSHAKE):
            self.abort(connection)
            return
        if connection.state is OPEN:
            connection.close_status = parse_close_payload(payload)
            if self._send_final(connection, encode_frame(CLOSE, payload), DRAINING):
                self._flush(connection)
        else:
            self.drain(connection)

    @leader_only
    def refuse(self, connection: Connection, refusal: HttpRefusal) -> None:
        """Answer a request that does not become a WebSocket, and end the connection."""
        method = connection.http.method if connection.http is not None else b""
        headers = connection.admission.headers if connection.admission is not None else ()
        self._send_final(connection, refusal.to_bytes(http_date(), method, headers), None)
        self.drain(connection)

    @leader_only
    def refuse_or_end(self, connection: Connection, refusal: HttpRefusal) -> None:
        """End the HTTP stage of a connection: with a response only if a request has begun.

        A client would take an unasked response for the answer to the request that it sends just now.
        """
        if connection.http is not None and connection.http.is_idle:
            self.drain(connection)
        else:
            self.refuse(connection, refusal)

    @leader_only
    def respond_finally(self, connection: Connection, response: HttpResponse) -> None:
        """Answer an HTTP request, and end the connection."""
        assert connection.http is not None
        data, _ = connection.http.encode_response(response, http_date(), close=True)
        self._send_final(connection, data, None)
        self.drain(connection)

    @leader_only
    def drain(self, connection: Connection) -> None:
        """Flush the write buffer, then half-close the socket."""
        if connection.state in (DRAINING, CLOSED):
            return
        with connection.lock:
            connection.transition(DRAINING)
        self._flush(connection)

    def _flush(self, connection: Connection) -> None:
        self._release(connection)
        if connection.write_buffer is None:
            self.on_flushed(connection)
        else:  # it may take long as long as there is progress, which the write stall timeout watches
            connection.deadline = math.inf
            self._reactor.update_interest(connection)

    @leader_only
    def on_flushed(self, connection: Connection) -> None:
        """Half-close the socket after everything was sent, and give the peer a moment to close."""
        try:
            with connection.lock:
                if connection.is_tls:
                    _send_close_notify(connection)
                connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort(connection)
        else:
            self._wait(connection, self._reactor.limits.connections.linger_timeout)

    @leader_only
    def abort(self, connection: Connection, status: CloseStatus = _LOST) -> None:
        """Close the socket now. Nothing else closes sockets of connections (invariant 5 in `connection.py`)."""
        if connection.state is CLOSED:
            return
        self._reactor.remove(connection)
        with connection.lock:
            connection.transition(CLOSED)
            connection.timer_at = 0.0  # its timers are obsolete
            connection.write_buffer = None
            in_tls_step = connection.in_tls_step
        self._release(connection)
        try:
            # Not the shutdown of the TLS socket, which would take OpenSSL's object away from a worker that uses it.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
        except OSError:
            pass  # the peer has closed it already
        if not in_tls_step:  # otherwise the worker closes it, see `tls_handshake.py`
            connection.sock.close()
        if connection.session is not None:
            self._reactor.service.on_closed(connection.session, connection.close_status or status)

    def _release(self, connection: Connection) -> None:
        """Drop what a connection needs only while it receives."""
        connection.deferred_events = connection.http = connection.parser = connection.admission = None
        if not connection.is_admitted:
            self._reactor.unadmitted.discard(connection)
        if connection.pending_request is not None:
            connection.pending_request.cancel()
            connection.pending_request = None

    def _send_final(self, connection: Connection, data: bytes, state: ConnectionState | None) -> bool:
        """Send the last bytes and change the state under one lock, so that nothing can follow them.

        Returns:
            Whether the connection still exists.
        """
        with connection.lock:
            result = connection.write(data)
            if state is not None:
                connection.transition(state)
        if not self._reactor.after_send(connection, result):
            self.abort(connection)
            return False
        return True

    def _wait(self, connection: Connection, seconds: float) -> None:
        connection.deadline = self._reactor.now + seconds
        self._reactor.schedule(connection, connection.deadline)
        self._reactor.update_interest(connection)

    # The end of the server

    @leader_only
    def start_shutdown(self) -> None:
        """Close all idle connections with 1001, and the others once their calls are answered."""
        self._reactor.registry.is_stopping = True
        status = CloseStatus(CloseCode.GOING_AWAY, "the server is stopping")
        for connection in self._reactor.registry.all():
            if connection.state is not OPEN or not connection.in_flight:
                self.start_close(connection, status)
            else:
                self._reactor.update_interest(connection)

    @leader_only
    def abort_all(self) -> None:
        """Close all remaining connections now."""
        status = CloseStatus(CloseCode.GOING_AWAY, "the server has stopped")
        for connection in self._reactor.registry.all():
            self.abort(connection, status)


def _send_close_notify(connection: Connection) -> None:
    """Send TLS's own end of stream (RFC 8446 section 6.1). The caller holds the connection's lock."""
    assert isinstance(connection.sock, ssl.SSLSocket)
    try:
        connection.sock.unwrap()
    except (OSError, ValueError):
        pass  # the peer's close_notify is not awaited, and a broken connection needs none
