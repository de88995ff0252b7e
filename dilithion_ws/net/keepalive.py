"""Detect dead and overdue connections: every state has a deadline, and silence is answered by a ping.

Each connection has at most one live timer. Timers are not cancelled: one that fires too early finds its time replaced
(`Connection.timer_at`) and is ignored. So a message costs no timer operation.
"""

from __future__ import annotations

import math

from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..protocol.frames import CLOSE, PING, close_payload, encode_frame
from ..protocol.http import HttpRefusal
from ..util.thread_contracts import leader_only
from .close_handshake import CloseHandshake
from .connection import CLOSED, HTTP, OPEN, Connection
from .reactor import Reactor

__all__ = ["Keepalive"]

_PING = encode_frame(PING, b"")


class Keepalive:
    """Enforces the deadlines of connections.

    Args:
        reactor: the connections.
        closer: ends them.
    """

    def __init__(self, reactor: Reactor, closer: CloseHandshake) -> None:
        self._reactor = reactor
        self._closer = closer

    @leader_only
    def on_timer(self, connection: Connection, at: float) -> None:
        """Check a connection for everything that may be overdue, and schedule the next check."""
        if at != connection.timer_at or connection.state is CLOSED:
            return  # replaced by an earlier check
        connection.timer_at = 0.0
        reactor, now = self._reactor, self._reactor.now
        write_stall = reactor.limits.connections.write_stall
        write_buffer = connection.write_buffer
        if write_buffer is not None and now >= write_buffer.progress_at + write_stall:
            reason = limit_reached(reactor.limits, "write_stall")
            connection.close_status = connection.close_status or CloseStatus(CloseCode.FELL_BEHIND, reason)
            self._closer.abort(connection)
            return
        if connection.state is OPEN:
            self._check_open(connection)
        elif now >= connection.deadline:
            self._on_deadline(connection)
        elif connection.deadline < math.inf:
            reactor.schedule(connection, connection.deadline)
        write_buffer = connection.write_buffer  # None if the connection was closed
        if write_buffer is not None:
            reactor.schedule(connection, write_buffer.progress_at + write_stall)

    def _check_open(self, connection: Connection) -> None:
        """Check the authentication deadline, then send a ping after silence, or close after silence that follows it."""
        reactor, now = self._reactor, self._reactor.now
        if now >= connection.deadline:
            assert connection.session is not None
            decision = reactor.service.on_deadline(connection.session)
            if isinstance(decision, CloseStatus):
                self._closer.start_close(connection, decision)
                return
            connection.deadline = now + decision
        if connection.deadline < math.inf:
            reactor.schedule(connection, connection.deadline)
        if connection.ping_at and connection.last_received_at >= connection.ping_at:
            connection.ping_at = 0.0
        if reactor.is_paused(connection):  # nothing is read from it, so silence means nothing
            connection.last_received_at = now
            connection.ping_at = 0.0
        limits = reactor.limits.connections
        if connection.ping_at:
            if now >= connection.ping_at + limits.pong_timeout:
                self._on_silence(connection)
            else:
                reactor.schedule(connection, connection.ping_at + limits.pong_timeout)
        elif now >= connection.last_received_at + limits.ping_interval:
            connection.ping_at = now
            # The pong is expected by the first check after the ping. It comes after the shorter of the two times, so that
            # pings keep their interval even if the timeout is longer.
            reactor.schedule(connection, now + min(limits.ping_interval, limits.pong_timeout))
            if not reactor.after_send(connection, connection.send_control(_PING)):
                self._closer.abort(connection)
        else:
            reactor.schedule(connection, connection.last_received_at + limits.ping_interval)

    def _on_silence(self, connection: Connection) -> None:
        """Drop a client that did not answer a ping. The close frame is an attempt only."""
        status = CloseStatus(CloseCode.INTERNAL_ERROR, limit_reached(self._reactor.limits, "pong_timeout"))
        connection.close_status = status
        connection.send_control(encode_frame(CLOSE, close_payload(*status)))
        self._closer.abort(connection)

    def _on_deadline(self, connection: Connection) -> None:
        if connection.state is not HTTP:
            self._closer.abort(connection)
        elif connection.pending_request is not None:
            self._closer.respond_finally(connection, connection.pending_request.expire())
        else:
            # The handshake timeout is that of a head, and of a pause in a body; `body_rate` gives a body its time.
            name = "handshake_timeout" if connection.admission is None else "body_rate"
            reason = limit_reached(self._reactor.limits, name)
            self._closer.refuse_or_end(connection, HttpRefusal(408, reason))
