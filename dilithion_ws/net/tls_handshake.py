"""From an accepted socket to one that speaks TLS. Leader only, but for the arithmetic, which the pool does."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable

from ..protocol.http_connection import HttpRefusal
from .close_handshake import CloseHandshake
from .connection import Connection, ConnectionState
from .poller import READ, WRITE
from .reactor import Reactor
from .tls import HANDSHAKE_BYTE, TlsContext
from .worker_pool import Job

__all__ = ["TlsHandshakeHandler"]

logger = logging.getLogger("dilithion_ws.net")

_DONE = 0


class TlsHandshakeHandler:
    """Negotiates TLS.

    Args:
        hub: the connections.
        closing: how they end.
        tls: the server's side; None where connections are plain.
        submit: gives a step of a handshake to the pool.
        post: has the leader run something later.
    """

    def __init__(
        self,
        hub: Reactor,
        closing: CloseHandshake,
        tls: TlsContext | None,
        submit: Callable[[Job], bool],
        post: Callable[[Job], None],
    ) -> None:
        self._hub = hub
        self._closing = closing
        self._tls = tls
        self._submit = submit
        self._post = post

    def begin(self, connection: Connection) -> None:
        """Makes a new connection wait for TLS, where the server speaks it."""
        if self._tls is not None:
            connection.state = ConnectionState.SECURING

    def step(self, connection: Connection) -> None:
        """The socket is ready for the next step of the handshake, or for the first."""
        if not connection.secure and not self._wrap(connection):
            return

        def work() -> None:
            outcome = _take_step(connection)
            if outcome is not None:
                self._post(lambda: self._stepped(connection, outcome))

        connection.serial = True
        self._hub.arm(connection)
        if not self._submit(work):  # pragma: no cover - the queue holds as many as there are connections
            self._closing.drop(connection)

    def _wrap(self, connection: Connection) -> bool:
        """Looks how the client begins; whether it speaks TLS."""
        try:
            first = connection.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            first = b""
        if not first:
            self._closing.drop(connection)
        elif first != HANDSHAKE_BYTE:
            with connection.lock:
                connection.become(ConnectionState.HANDSHAKE)
            text = "this port speaks TLS: connect with wss:// (or https://)"
            self._closing.refuse(connection, HttpRefusal(400, text))
        else:
            return self._replace_socket(connection)
        return False

    def _replace_socket(self, connection: Connection) -> bool:
        assert self._tls is not None
        plain = connection.sock  # its descriptor goes over to the new socket, and so stays with the poller
        try:
            connection.sock = self._tls.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            logger.debug("%r has gone: %s", connection, error)
            if plain.fileno() < 0:
                connection.interest = 0  # closed together with the new socket, and so forgotten by the poller
            self._closing.drop(connection)
            return False
        connection.secure = True
        return True

    def _stepped(self, connection: Connection, outcome: int | str) -> None:
        """A step has been taken: waits for the next, goes on to HTTP, or gives up."""
        if connection.state is not ConnectionState.SECURING:
            return  # its time was over, or the server stops
        connection.serial = False
        if isinstance(outcome, str):
            logger.info("%s:%d: TLS failed: %s", *connection.address, outcome)
            self._closing.drop(connection)
        elif outcome == _DONE:
            with connection.lock:
                connection.become(ConnectionState.HANDSHAKE)
            self._hub.arm(connection)  # the request may have come together with the end of the handshake
        else:
            connection.wants = outcome
            self._hub.arm(connection)


def _take_step(connection: Connection) -> int | str | None:
    """One step, in the pool; None where the leader has dropped the connection, before it or meanwhile.

    While a worker is in OpenSSL, `drop` leaves the socket open, and closing it is the worker's part: its number could
    otherwise be another connection's already.
    """
    sock = connection.sock
    assert isinstance(sock, ssl.SSLSocket)
    with connection.lock:
        if connection.is_closed:
            return None
        connection.stepping = True
    outcome = _shake_hands(sock)
    with connection.lock:
        connection.stepping = False
        dropped = connection.is_closed
    if dropped:
        sock.close()
    return None if dropped else outcome


def _shake_hands(sock: ssl.SSLSocket) -> int | str:
    """One step, in the pool: READ or WRITE for what it waits for, or that it is done, or why it failed."""
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        return READ
    except ssl.SSLWantWriteError:
        return WRITE
    except (OSError, ValueError) as error:
        return getattr(error, "reason", None) or str(error)
    return _DONE
