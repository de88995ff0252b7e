"""Handle sockets that are ready, timers that are due, and commands of other threads. For the leading thread."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import msgspec

from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..protocol.frames import CLOSE, close_payload
from ..protocol.http import HttpRefusal
from ..protocol.message_parser import PROTOCOL_ERROR, MessageEvent
from ..util.thread_contracts import leader_only
from .close_handshake import CloseHandshake
from .connection import (
    BROKEN,
    CLOSED,
    CLOSING,
    DRAINING,
    HTTP,
    OPEN,
    PROXY_HEADER,
    SENT,
    TLS_HANDSHAKE,
    Connection,
)
from .handshake_handler import HandshakeHandler
from .interfaces import Address
from .keepalive import Keepalive
from .message_fast_path import answer_events
from .message_server import MessageServer
from .pending_request import PendingRequest
from .poller import ENDED, READ, WRITE
from .proxy_handler import ProxyProtocolHandler
from .reactor import Reactor
from .tls_handshake import TlsHandshakeHandler

__all__ = ["ConnectionHandler", "Stages"]

_ids = itertools.count(1)
"""Numbers of connections. A process uses none twice: a handler that outlives a stop may still know one."""


class Stages(msgspec.Struct, frozen=True):
    """What handles a connection, by its state.

    Attributes:
        proxy: PROXY_HEADER.
        tls: TLS_HANDSHAKE.
        handshake: HTTP.
        messages: OPEN.
        closer: every end.
        keepalive: deadlines in every state.
    """

    proxy: ProxyProtocolHandler
    tls: TlsHandshakeHandler
    handshake: HandshakeHandler
    messages: MessageServer
    closer: CloseHandshake
    keepalive: Keepalive


class ConnectionHandler:
    """Passes what happens to a connection to the stage of its state. Commands of the mailbox get it as their argument.

    Args:
        reactor: the connections.
        stages: what handles them.
    """

    def __init__(self, reactor: Reactor, stages: Stages) -> None:
        self._reactor = reactor
        self._proxy = stages.proxy
        self._tls = stages.tls
        self._keepalive = stages.keepalive
        self.handshake = stages.handshake
        self.messages = stages.messages
        self.closer = stages.closer

    @leader_only
    def on_accepted(self, sock: socket.socket, address: Address) -> None:
        """Take over a socket that the acceptor has admitted, and make it non-blocking."""
        reactor = self._reactor
        sock.setblocking(False)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # the client has disconnected, which the first read reports
        connection = Connection(next(_ids), sock, address, reactor.clock)
        self._proxy.on_accepted(connection)
        self._tls.on_accepted(connection)
        reactor.add(connection)
        oldest = reactor.unadmitted.add(connection, reactor.now)
        if oldest is not None:
            self._make_room(oldest)
        if reactor.registry.is_stopping:
            self.closer.start_close(connection, CloseStatus(CloseCode.GOING_AWAY, "the server is stopping"))

    def _make_room(self, connection: Connection) -> None:
        """Close a connection that has not logged in, for another that may."""
        reason = limit_reached(self._reactor.limits, "unauthenticated_connections")
        if connection.state is HTTP:
            self.closer.refuse_or_end(connection, HttpRefusal(503, reason))
        else:
            self.closer.fail(connection, close_payload(CloseCode.TRY_AGAIN_LATER, reason))

    @leader_only
    def on_ready(self, connection: Connection, mask: int) -> None:
        """Handle a socket that the poller reports as readable, writable or ended."""
        try:
            if mask != READ:
                if connection.state is TLS_HANDSHAKE:
                    self._tls.on_ready(connection)
                    return
                if mask & WRITE and not self._flush(connection):
                    return
                if not mask & READ:
                    if mask & ENDED:
                        self.closer.abort(connection)
                    return
            self._read(connection)
        except Exception:
            self.messages.on_fault(connection)

    @leader_only
    def on_timer(self, connection: Connection, at: float) -> None:
        """Check a connection whose timer is due."""
        try:
            self._keepalive.on_timer(connection, at)
        except Exception:
            self.messages.on_fault(connection)

    @leader_only
    def recheck_deadline(self, connection: Connection) -> None:
        """Ask the service until when an open connection may stay, since its login has changed."""
        if connection.state is OPEN:
            self._reactor.set_deadline(connection, 0.0)

    @leader_only
    def on_request_done(self, request: PendingRequest, outcome: Any) -> None:
        """Continue with a request whose task has ended in the pool."""
        try:
            self.handshake.on_request_done(request, outcome)
            self._after_handshake(request.connection)
        except Exception:
            self.messages.on_fault(request.connection)

    def _flush(self, connection: Connection) -> bool:
        """Send what is buffered. Return whether the connection still exists."""
        result = connection.flush(self._reactor.now)
        if result is BROKEN:
            self.closer.abort(connection)
            return False
        if result is SENT:
            if connection.state is DRAINING:
                self.closer.on_flushed(connection)
            elif connection.state is HTTP:
                self.handshake.on_written(connection)
            elif connection.state is OPEN:
                assert connection.session is not None
                self._reactor.registry.broadcasts.on_writable(connection)
                self._reactor.service.on_writable(connection.session)
        self.messages.resume(connection)
        return connection.state is not CLOSED

    def _read(self, connection: Connection) -> None:
        state, reactor = connection.state, self._reactor
        if state is TLS_HANDSHAKE:
            self._tls.on_ready(connection)
            return
        if state is PROXY_HEADER:
            self._proxy.on_readable(connection)
            return
        if connection.has_more:
            connection.has_more = False
            data = b""
        else:
            try:
                data = connection.receive(connection.read_size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.closer.abort(connection)
                return
            connection.last_received_at = reactor.now
            reactor.registry.bytes_received += len(data)
        if connection.is_tls and (not data or len(data) == connection.read_size):
            # OpenSSL may hold more: this read ended for its size, or the parser still has bytes of one that did. Noted
            # before a handler runs, which may cost this thread the ownership of the loop.
            reactor.unpolled[connection] = None
        if state is OPEN:
            parser = connection.parser
            events = parser.receive(data)  # type: ignore[union-attr]
            if parser.has_more or connection.session.is_rate_limited:  # type: ignore[union-attr]
                self._after_parse(connection, len(data), events)
            answer_events(self.messages, connection, events)
        elif state is HTTP:
            self.handshake.receive(connection, data)
            self._after_handshake(connection)
        elif state is CLOSING:
            assert connection.parser is not None
            events = connection.parser.receive(data)
            self._after_parse(connection, len(data), events)
            self._await_close(connection, events)

    def _after_parse(self, connection: Connection, size: int, events: list[MessageEvent]) -> None:
        """Continue later with what was not parsed in this turn, and charge a rate-limited client for what was."""
        parser, session = connection.parser, connection.session
        assert parser is not None
        assert session is not None
        if parser.has_more:
            self._reactor.read_again(connection)
        frames = len(events) + parser.fragments
        parser.fragments = 0
        if session.is_rate_limited:
            inflated = sum(len(event.payload) for event in events)
            self._reactor.service.on_received(session, max(size, inflated), frames)

    def _after_handshake(self, connection: Connection) -> None:
        """Close a connection whose user was removed meanwhile. Otherwise answer frames that came with the request."""
        self.messages.close_if_demanded(connection)
        if connection.deferred_events is not None:
            self.messages.resume(connection)

    def _await_close(self, connection: Connection, events: list[MessageEvent]) -> None:
        """After our close frame, only the peer's close frame matters. Messages are discarded."""
        for event in events:
            if event.kind == CLOSE:
                self.closer.on_close(connection, event.payload)
            elif event.kind == PROTOCOL_ERROR:
                self.closer.drain(connection)
