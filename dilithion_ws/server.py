"""The embeddable server: what a host creates, starts, publishes through and stops.

Concurrency: every public method may be called from any thread and from handlers, `stop` and `reload` also from signal
handlers. None of them blocks on a client. Handlers run in the server's threads; a method that was registered with
`blocking=True`, or measured as slow, never holds up another client.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from .config.config import Config
from .config.exposure import check_exposure
from .errors import CloseStatus, ConfigError, ForkError, NotRunningError, StartError
from .events.hub import USER_PREFIX, EventHub
from .net.listeners import adopt_sockets
from .net.tls import TlsContext
from .protocol.message_encoder import Message, encode_message
from .rpc.table import RpcTable
from .service.assembly import Host, RunningServer, assemble
from .service.connection_info import ConnectionInfo, describe_connection
from .service.host_offers import HostOffers
from .service.raw_messages import MessageHandler
from .service.statistics import ServerStatistics
from .session import Session
from .stores import make_store
from .util.clock import Clock, monotonic
from .util.stop_at_exit import stop_at_exit
from .util.thread_contracts import any_thread

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WebSocketServer"]

logger = logging.getLogger("dilithion_ws")

_RELOAD_TIMEOUT = 30.0
_STOP_MARGIN = 1.0
"""Seconds beyond the timeout that `stop` waits for the threads to end."""


class WebSocketServer(HostOffers):
    """A WebSocket server that answers JSON-RPC calls from a table of methods.

    Args:
        rpc: the methods; None for a server of raw messages only.
        config: address, port and limits; default: 127.0.0.1 and a free port.
        on_connect: called with the session of each new client, in a thread of its own and in order.
        on_disconnect: called with the session, the close code and the reason when a client has disconnected; likewise.
        on_message: called with session and message (str or bytes) before JSON-RPC. Its result is sent back; None sends
            nothing; NotImplemented leaves the message to JSON-RPC.
        sockets: listening TCP sockets to use instead of the configured addresses and port. `stop` closes them here alone:
            another process that has them goes on to accept their connections. So a server with them starts once.
        clock: for tests.

    Example:
        >>> rpc = RpcTable()
        >>> rpc.register("getblockcount", lambda: 840000)
        <Method getblockcount()>
        >>> with WebSocketServer(rpc) as server:
        ...     server.is_running
        True
    """

    def __init__(
        self,
        rpc: RpcTable | None = None,
        config: Config | None = None,
        *,
        on_connect: Callable[[Session], None] | None = None,
        on_disconnect: Callable[[Session, int, str], None] | None = None,
        on_message: MessageHandler | None = None,
        sockets: Sequence[socket.socket] = (),
        clock: Clock = monotonic,
    ) -> None:
        self.rpc = RpcTable() if rpc is None else rpc
        self.config = adopt_sockets(Config() if config is None else config, sockets)
        self._sockets = sockets
        self._callbacks = (on_connect, on_disconnect, on_message)
        self._clock = clock
        self._store = make_store(self.config)
        super().__init__(EventHub(self.config.limits, clock, self._store))
        self._start_lock = threading.Lock()  # so that the server is started once
        self._running: RunningServer | None = None
        self._pid = os.getpid()

    @any_thread
    def start(self) -> Self:
        """Start to listen and to answer. Return the server.

        Raises:
            StartError: it is running already, or the address cannot be listened on. Nothing is left running.
            ConfigError: a file cannot be used, or the address is public and TLS or users are missing.
        """
        with self._start_lock:
            if self.is_running:
                raise StartError(f"the server runs already, on port {self.port}")
            if any(sock.fileno() < 0 for sock in self._sockets):
                raise StartError("the given sockets were closed by the last run; make a new server with new ones")
            self._pid = os.getpid()
            check_exposure(self.config)
            offers = (self.subprotocols, self.gauges, self.routes, self.health)
            host = Host(self.rpc, self.events, self._store, *offers, *self._callbacks, self._sockets)
            self._running = assemble(self.config, self._clock, host)
        stop_at_exit(self)
        logger.info("listening on %s port %d", self.config.host, self.port)
        return self

    @any_thread
    def reload(self, timeout: float = _RELOAD_TIMEOUT) -> bool:
        """Read users file and certificate again, without dropping a connection. It also happens when a file changes.

        A changed role applies from its users' next call. Connections of removed users are closed with 4401. A new
        certificate applies to new connections. What cannot be used leaves the previous one in use.

        Args:
            timeout: seconds to wait for that. 0 only requests it, as a signal handler must.

        Returns:
            Whether everything was read in time; the log says what could not be. False if the server is not running.
        """
        running = self._running
        return running is not None and self.is_running and running.watcher.request(timeout)

    @any_thread
    def initialize_ssl(self, certificate: str, private_key: str, client_ca: str = "") -> bool:
        """Use TLS from the next start on, as the reference's InitializeSSL does: it never raises.

        Args:
            certificate: PEM file with the certificate and its chain.
            private_key: PEM file with its key.
            client_ca: authorities of client certificates, or "".

        Returns:
            Whether the files can be used; the log says what is wrong with them.
        """
        try:
            TlsContext(certificate, private_key, client_ca)
            self.config = msgspec.structs.replace(
                self.config, certificate=certificate, private_key=private_key, client_ca=client_ca
            )
        except ConfigError as error:
            logger.error("TLS could not be set up: %s", error)
            return False
        return True

    @any_thread
    def stop(self, timeout: float | None = None) -> bool:
        """Stop: accept no more, close idle clients with 1001, let running calls end, then close the others.

        It may be called at any time, from any thread and from a signal handler, and repeatedly. Called by a handler or a
        callback, it returns at once, so that these can end.

        Args:
            timeout: seconds until everything is closed by force; default: the drain timeout. 0 only requests the stop.

        Returns:
            Whether the server has stopped.
        """
        running = self._running
        if running is None or os.getpid() != self._pid:
            return True
        drain_timeout = self.config.limits.connections.drain_timeout
        seconds = drain_timeout if timeout is None else max(0.0, timeout)
        transport = running.transport
        transport.request_stop(seconds if timeout != 0 else drain_timeout)
        if timeout == 0 or running.callbacks.is_own_thread() or not transport.can_wait():
            return transport.ended.is_open
        return transport.ended.wait(seconds + _STOP_MARGIN)

    @any_thread
    def wait(self, timeout: float | None = None) -> bool:
        """Block until the server has stopped, at most `timeout` seconds. Return whether it has."""
        running = self._running
        return True if running is None else running.transport.ended.wait(timeout)

    def __enter__(self) -> Self:
        return self if self.is_running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = f"on {self.config.host}:{self.port}" if self.is_running else "stopped"
        return f"<WebSocketServer {where}, {len(self.rpc.methods())} methods>"

    @property
    def is_running(self) -> bool:
        """Whether the server was started and has not stopped, in this process."""
        running = self._running
        return running is not None and os.getpid() == self._pid and not running.transport.ended.is_open

    @any_thread
    def is_responsive(self, timeout: float = 1.0) -> bool:
        """Return whether the server serves clients within `timeout` seconds: for a watchdog, not for a handler."""
        return self.is_running and self._require_running().transport.is_responsive(timeout)

    @property
    def port(self) -> int:
        """The port it listens on. Before the start, the configured one."""
        return self.config.port if self._running is None else self._running.transport.port

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return self.config.url(self.port)

    @property
    def connection_count(self) -> int:
        """Open WebSocket connections."""
        return len(self._require_running().registry.websockets()) if self.is_running else 0

    @any_thread
    def connections(self) -> list[ConnectionInfo]:
        """Return the open connections."""
        found = self._require_running().registry.websockets() if self.is_running else []
        now = self._clock()
        return [describe_connection(connection, now) for connection in found]

    @any_thread
    def statistics(self) -> ServerStatistics:
        """Return what the server has counted since its start. Raise NotRunningError if it is not running."""
        return self._require_running().statistics.take()

    @any_thread
    def publish(self, topic: str, event: Any) -> None:
        """Publish an event: from any thread, in microseconds, whatever the number of clients and their state.

        Args:
            topic: its name.
            event: anything that can be encoded as JSON and fits the topic's schema (`events.node_events` for the node's
                topics). Change the node's state before you publish.

        Raises:
            UnknownTopicError: the topic does not exist.
            EventError: the event cannot be published; nothing was.
            ForkError: the process was forked after `start`. The threads that deliver events stayed in the parent.

        Before `start` and after `stop`, the event is appended to the log, for clients that subscribe later.
        """
        self._check_fork()
        self.events.publish(topic, event)

    @any_thread
    def send_to_user(self, name: str, event: Any) -> None:
        """Publish an event that only one user can read, under the topic `user/<name>`.

        It is kept for a user who is not connected, as long as the limits `history_...` allow.

        Raises:
            EventError: the event cannot be published; nothing was.
            ForkError: see `publish`.
        """
        self._check_fork()
        self.events.publish(USER_PREFIX + name, event)

    @any_thread
    def send(self, connection_id: int, message: Message) -> None:
        """Send one message to one client, without blocking: text for str, binary for bytes.

        Raises:
            ConnectionNotFoundError: the connection is not open.
            OutboxFullError: the client does not read, and its write buffer has reached the limit `outbox`.
            NotRunningError: the server is not running.
        """
        self._require_running().registry.send(connection_id, encode_message(message))

    @any_thread
    def broadcast(self, message: Message) -> int:
        """Send one message to all clients, encoded once. Return how many clients there are. It waits for no client.

        The threads that deliver events send it, several at once in a burst. Each client gets broadcasts in order, and
        later answers and messages after them; only events may arrive before. A client that has not read what was
        broadcast before, and for which more than the limit `outbox` waits, is closed with 4108. If the threads are behind
        by more than that, the calling thread helps them.
        """
        return self._require_running().registry.broadcast(encode_message(message))

    @any_thread
    def close_connection(self, connection_id: int, code: int = 1000, reason: str = "") -> None:
        """Start the close handshake with one client.

        Args:
            connection_id: its connection.
            code: 1000 to 1014 without 1004 to 1006, or 3000 to 4999 (RFC 6455 section 7.4).
            reason: text for people; cut at 123 bytes.

        Raises:
            ConnectionNotFoundError: the connection is not open.
            ValueError: the code cannot be sent.
        """
        if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not 3000 <= code <= 4999:
            raise ValueError(f"close code {code} can't be sent: 1000-1003, 1007-1014 and 3000-4999 can")
        self._require_running().registry.close(connection_id, CloseStatus(code, reason))

    def _check_fork(self) -> None:
        running = self._running
        if running is not None and not running.transport.ended.is_open and os.getpid() != self._pid:
            raise ForkError("the process was forked after start(); the child must make a server of its own")

    def _require_running(self) -> RunningServer:
        self._check_fork()
        if self._running is None or self._running.transport.ended.is_open:
            raise NotRunningError("the server is not running; call start() first")
        return self._running
