"""Negotiate TLS. The leader decides when a step is due. The steps, which cost milliseconds, run in the pool.

A step never blocks: it ends with "done", or with what it waits for. Meanwhile the connection is paused, so the poller
does not report it. Its deadline still runs.

The race with `CloseHandshake.abort`. While a worker is inside OpenSSL, the leader may have to drop the connection (its
deadline has passed, or the server stops). If the leader closed the socket then, the descriptor's number could belong to
another connection before the worker's next system call, which would read and write there. So `in_tls_step`, guarded by
the connection's lock, says who closes the socket: the leader if it is false, otherwise the worker, which checks the
state after its step. The leader always shuts the socket down, so that the worker's step ends at once.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl

from ..protocol.client_hello import HEADER_SIZE, record_size, refuse_client_hello
from ..protocol.http import HttpRefusal
from ..util.log_budget import LogBudget
from ..util.thread_contracts import leader_only
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection import CHECKED, HTTP, PROXY_HEADER, TLS_HANDSHAKE, Connection
from .poller import READ, WRITE
from .reactor import Reactor
from .tls import HANDSHAKE_BYTE, TlsContext

__all__ = ["TlsHandshakeHandler"]

logger = logging.getLogger("dilithion_ws.net")

_DONE = 0
_MAX_RECORD = HEADER_SIZE + 16_384


class TlsHandshakeHandler:
    """Turns accepted sockets into TLS sockets.

    Args:
        reactor: the connections.
        closer: ends them.
        scheduler: hands steps to the pool.
        tls: the server's context, or None if connections are not encrypted.
    """

    def __init__(
        self, reactor: Reactor, closer: CloseHandshake, scheduler: CallScheduler, tls: TlsContext | None
    ) -> None:
        self._reactor = reactor
        self._closer = closer
        self._scheduler = scheduler
        self._tls = tls
        rates = reactor.limits.rates
        self._log_budget = LogBudget(reactor.clock, int(rates.audit_burst), rates.audit_rate)

    @leader_only
    def on_accepted(self, connection: Connection) -> None:
        """Wait for TLS on a new connection, if the server uses it."""
        if self._tls is not None and connection.state is not PROXY_HEADER:
            connection.state = TLS_HANDSHAKE

    @leader_only
    def on_ready(self, connection: Connection) -> None:
        """Take the next step of the handshake, or the first one."""
        if not connection.is_tls and not self._wrap(connection):
            return

        def step() -> None:
            outcome = _take_step(connection)
            if outcome is not None:
                self._reactor.mailbox.post(lambda leader: self._on_step_done(connection, outcome))

        connection.is_paused = True
        self._reactor.update_interest(connection)
        if not self._scheduler.submit_handshake_step(
            step
        ):  # pragma: no cover - the queue has room for every connection
            self._closer.abort(connection)

    def _wrap(self, connection: Connection) -> bool:
        """Look at the first byte. Return whether the client speaks TLS, and its socket is wrapped now."""
        try:
            first = connection.sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            first = b""
        if not first:
            self._closer.abort(connection)
        elif first != HANDSHAKE_BYTE:
            with connection.lock:
                connection.transition(HTTP)
            text = "this port speaks TLS: connect with wss:// (or https://)"
            self._closer.refuse(connection, HttpRefusal(400, text))
        else:
            return self._replace_socket(connection)
        return False

    def _replace_socket(self, connection: Connection) -> bool:
        assert self._tls is not None
        plain = connection.sock  # its descriptor moves to the new socket, and so stays registered with the poller
        try:
            connection.sock = self._tls.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            logger.debug("%r has disconnected: %s", connection, error)
            if plain.fileno() < 0:
                connection.interest = 0  # it was closed together with the new socket, which the poller notices itself
            self._closer.abort(connection)
            return False
        connection.is_tls = True
        return True

    @leader_only
    def _on_step_done(self, connection: Connection, outcome: int | str) -> None:
        """Wait for the next step, go on to HTTP, or give up."""
        if connection.state is not TLS_HANDSHAKE:
            return  # it was dropped meanwhile
        connection.is_paused = False
        if isinstance(outcome, str):
            suppressed = self._log_budget.take()
            if suppressed is not None:
                more = f" ({suppressed} failures before it were not logged)" if suppressed else ""
                logger.info("%s:%d: TLS failed: %s%s", *connection.address, outcome, more)
            self._closer.abort(connection)
            return
        if outcome == _DONE:
            connection.certificate = _peer_certificate(connection.sock)
            with connection.lock:
                connection.transition(HTTP)
        else:
            connection.tls_interest = outcome
        self._reactor.update_interest(connection)  # after the handshake, the request may have been decrypted already


def _take_step(connection: Connection) -> int | str | None:
    """Take one step, in the pool. Return None if the leader has dropped the connection before or during it."""
    sock = connection.sock
    assert isinstance(sock, ssl.SSLSocket)
    with connection.lock:
        if connection.is_closed:
            return None
        connection.in_tls_step = True
    outcome = _do_handshake(sock) if connection.hello_size == CHECKED else _check_hello(connection, sock)
    with connection.lock:
        connection.in_tls_step = False
        dropped = connection.is_closed
    if dropped:
        sock.close()
    return None if dropped else outcome


def _peer_certificate(sock: socket.socket) -> bytes:
    """Return the SHA-256 of the certificate that a client has presented and OpenSSL has verified, or nothing."""
    assert isinstance(sock, ssl.SSLSocket)
    der = sock.getpeercert(binary_form=True) if sock.context.verify_mode != ssl.CERT_NONE else None
    return hashlib.sha256(der).digest() if der else b""


def _check_hello(connection: Connection, sock: ssl.SSLSocket) -> int | str:
    """Look at the first message before OpenSSL does, once all of it has arrived. Then do the first step."""
    plain = socket.socket
    try:
        start = plain.recv(sock, _MAX_RECORD, socket.MSG_PEEK)
        size = record_size(start) if len(start) >= HEADER_SIZE else HEADER_SIZE
        if len(start) < size:
            if size > _MAX_RECORD or connection.hello_size == size:  # it was woken by the end of the stream
                return "the first message is not complete"
            connection.hello_size = size
            # The poller wakes for this many bytes, and not for each of those that a slow client sends.
            plain.setsockopt(sock, socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
            return READ
        if connection.hello_size:
            plain.setsockopt(sock, socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    except BlockingIOError:
        return READ
    except OSError as error:
        return str(error)
    connection.hello_size = CHECKED
    return refuse_client_hello(start[:size]) or _do_handshake(sock)


def _do_handshake(sock: ssl.SSLSocket) -> int | str:
    """Return READ or WRITE for what the handshake waits for, _DONE, or the reason of its failure."""
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        return READ
    except ssl.SSLWantWriteError:
        return WRITE
    except (OSError, ValueError) as error:
        return getattr(error, "reason", None) or str(error)
    return _DONE
