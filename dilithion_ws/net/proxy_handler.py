"""Connections that come through a proxy: who is behind it. Leader only."""

from __future__ import annotations

import logging
import socket

from ..protocol.proxy_protocol import ProxyHeader, ProxyHeaderError
from .close_handshake import CloseHandshake
from .connection import Connection, ConnectionState
from .reactor import Reactor

__all__ = ["ProxyProtocolHandler"]

logger = logging.getLogger("dilithion_ws.net")

_PEEK = 4096


class ProxyProtocolHandler:
    """Reads the header of the PROXY protocol, which comes before everything else, TLS included.

    Args:
        hub: the connections.
        closing: how they end.
        then: the state that follows: TLS or HTTP.
        expected: whether trusted proxies send such a header.
    """

    def __init__(self, hub: Reactor, closing: CloseHandshake, then: ConnectionState, expected: bool) -> None:
        self._hub = hub
        self._closing = closing
        self._then = then
        self._expected = expected

    def begin(self, connection: Connection) -> None:
        """Makes a new connection wait for the header, where one will come."""
        if self._expected and self._hub.admission.trusts(connection.address[0]):
            connection.state = ConnectionState.PROXIED

    def receive(self, connection: Connection) -> None:
        """The socket of a connection that waits for its header can be read."""
        header = connection.proxy_header
        if header is None:
            header = connection.proxy_header = ProxyHeader()
        try:
            data = connection.sock.recv(_PEEK, socket.MSG_PEEK)
            if not data:  # a check of the proxy, or a client that has gone
                self._closing.drop(connection)
                return
            header.take(connection.sock.recv(header.wants(data)))
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProxyHeaderError) as error:
            if isinstance(error, ProxyHeaderError):
                logger.warning("%s:%d: no header of the PROXY protocol: %s", *connection.address, error)
            self._closing.drop(connection)
            return
        if header.is_whole:
            self._known(connection, header)

    def _known(self, connection: Connection, header: ProxyHeader) -> None:
        connection.proxy_header = None
        refusal = None
        if header.client is not None:
            refusal = self._hub.readmit(connection, header.client)
        with connection.lock:
            connection.become(self._then if refusal is None else ConnectionState.HANDSHAKE)
        if refusal is None:
            self._hub.arm(connection)
        elif self._then is ConnectionState.SECURING:  # it would not understand us
            self._closing.drop(connection)
        else:
            self._closing.refuse(connection, refusal)
