"""Parse the PROXY protocol header, which comes before everything else, TLS included. For the leading thread."""

from __future__ import annotations

import logging
import socket

from ..protocol.proxy_protocol import ProxyHeader, ProxyHeaderError
from ..util.thread_contracts import leader_only
from .close_handshake import CloseHandshake
from .connection import HTTP, PROXY_HEADER, TLS_HANDSHAKE, Connection
from .reactor import Reactor

__all__ = ["ProxyProtocolHandler"]

logger = logging.getLogger("dilithion_ws.net")

_PEEK_SIZE = 4096


class ProxyProtocolHandler:
    """Finds the client behind connections of trusted proxies.

    Args:
        reactor: the connections.
        closer: ends them.
    """

    def __init__(self, reactor: Reactor, closer: CloseHandshake) -> None:
        self._reactor = reactor
        self._closer = closer
        self._is_expected = reactor.config.proxy_protocol
        self._next_state = TLS_HANDSHAKE if reactor.config.has_tls else HTTP

    @leader_only
    def on_accepted(self, connection: Connection) -> None:
        """Wait for the header on a new connection, if its peer sends one."""
        if self._is_expected and self._reactor.limiter.is_trusted_proxy(connection.address[0]):
            connection.state = PROXY_HEADER

    @leader_only
    def on_readable(self, connection: Connection) -> None:
        """Read the next part of the header, and no byte after it."""
        header = connection.proxy_header
        if header is None:
            header = connection.proxy_header = ProxyHeader()
        try:
            data = connection.sock.recv(_PEEK_SIZE, socket.MSG_PEEK)
            if not data:  # a health check of the proxy, or a client that has disconnected
                self._closer.abort(connection)
                return
            header.feed(connection.sock.recv(header.missing_bytes(data)))
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProxyHeaderError) as error:
            if isinstance(error, ProxyHeaderError):
                logger.warning("%s:%d: not a PROXY protocol header: %s", *connection.address, error)
            self._closer.abort(connection)
            return
        if header.is_complete:
            self._on_header(connection, header)

    def _on_header(self, connection: Connection, header: ProxyHeader) -> None:
        connection.proxy_header = None
        refusal = None
        if header.client is not None:
            refusal = self._reactor.reassign_address(connection, header.client)
        with connection.lock:
            connection.transition(self._next_state if refusal is None else HTTP)
        if refusal is None:
            self._reactor.update_interest(connection)
        elif self._next_state is TLS_HANDSHAKE:  # the client expects TLS and would not understand plain HTTP
            self._closer.abort(connection)
        else:
            self._closer.refuse(connection, refusal)
