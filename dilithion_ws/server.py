"""The embeddable server: what a host creates, starts, publishes through and stops.

Concurrency: every public method may be called from any thread and from handlers, `stop` and `reload` from signal handlers
too. None of them waits for a client. Handlers run in the server's own threads; a method registered with `blocking=True`,
or measured as slow, never holds up another client.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from .auth.credential_files import CredentialFiles
from .auth.credentials import BEARER_PREFIX
from .config.config import Config
from .errors import ConfigError, ForkError, NotRunningError, StartError
from .events.hub import USER_PREFIX, EventHub
from .events.log import Retention
from .events.subscriber import Subscriber
from .events.topic import ALL, Topic
from .net.connection_subscriber import offer_all
from .net.tls import TlsContext
from .net.transport import Transport
from .outgoing import Message, encode_message, event_frame
from .protocol.message_encoder import Codec
from .rpc.context import Session
from .rpc.table import RpcTable
from .service.access_control import SUBPROTOCOLS, AccessControl
from .service.connection_info import ConnectionInfo
from .service.metrics import HostGauges, PrometheusCollector
from .service.reloader import Reloader
from .service.rpc_service import Callbacks, MessageHandler, RpcService
from .stores import make_store
from .util.clock import Clock, Deadline, monotonic
from .util.stop_at_exit import stop_at_exit

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WebSocketServer"]

logger = logging.getLogger("dilithion_ws")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")


class WebSocketServer:
    """A WebSocket server that answers JSON-RPC calls from a table of methods.

    Args:
        rpc: the methods; None for a server of raw messages only.
        config: address, port and limits; default: 127.0.0.1 and a free port.
        on_connect: called with the session of each new client, in a thread of its own and in order.
        on_disconnect: called with the session, the close code and the reason when a client has gone; likewise.
        on_message: called with session and message (str or bytes) before JSON-RPC sees it. What it returns is sent back;
            None sends nothing; NotImplemented leaves the message to JSON-RPC.
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
        clock: Clock = monotonic,
    ) -> None:
        self.rpc = RpcTable() if rpc is None else rpc
        self.config = Config() if config is None else config
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._on_message = on_message
        self._clock = clock
        self._store = make_store(self.config)
        self._subprotocols: dict[str, Codec | None] = dict(SUBPROTOCOLS)
        self._gauges = HostGauges()
        self.events = EventHub(self.config.limits, clock, event_frame, self._may_read, self._store, offer_all)
        self._starting = threading.Lock()  # guards against two starts at once
        self._transport: Transport | None = None
        self._callbacks: Callbacks | None = None
        self._keeper: AccessControl | None = None
        self._reloader: Reloader | None = None
        self._pid = os.getpid()

    def start(self) -> Self:
        """Starts listening and answering; returns the server.

        Raises:
            StartError: it runs already, or the address can't be listened on. Nothing is left running.
            ConfigError: a file can't be used, or the address is public and TLS or users are missing.
        """
        with self._starting:
            if self.is_running:
                raise StartError(f"the server runs already, on port {self.port}")
            self._pid = os.getpid()
            self.config.check_exposure()
            files = CredentialFiles(self.config, self._clock)
            try:
                self._start(files)
            except BaseException:
                files.close()
                raise
        stop_at_exit(self)
        logger.info("listening on %s port %d", self.config.host, self.port)
        return self

    def _start(self, files: CredentialFiles) -> None:
        limits = self.config.limits
        keeper = AccessControl(self.config, files.load(), self._clock, files.audit, self._subprotocols)
        callbacks = Callbacks(self._on_connect, self._on_disconnect, limits.calls.callback_backlog)
        metrics = PrometheusCollector(self.rpc.methods, self.events, files.audit, lambda: self._transport, self._gauges)
        service = RpcService(
            self.rpc,
            limits,
            self._clock,
            keeper,
            self.events,
            self._sink,
            callbacks,
            self._is_draining,
            metrics.render,
            self._on_message,
        )

        def at_end(deadline: Deadline) -> None:
            callbacks.stop(deadline)
            if self._store is not None:
                self._store.stop(deadline)
            files.close()

        config = self.config
        tls = TlsContext(config.certificate, config.private_key, config.client_ca) if config.has_tls else None
        callbacks.start()
        files.watch(self.reload)
        try:
            transport = Transport(
                config, service, self._clock, tls, keeper.connection_refusal, at_end, self.events.shards
            )
            try:
                files.write_cookie()
                if self._store is not None:
                    self._store.start(self.events)
            except BaseException:
                transport.abandon()
                raise
            keeper.close = keeper.logins.close = transport.leave
            keeper.logins.rights_changed = lambda session: self.events.recheck(session, session.connection_id)
            self._callbacks, self._keeper = callbacks, keeper
            self._reloader = Reloader(files, keeper.logins, tls, self._sessions)
            self._transport = transport  # before the first client can make a handler ask for it
            transport.start()
        except BaseException:
            self._transport = None
            callbacks.stop(Deadline(self._clock, 0.1))
            if self._store is not None:
                self._store.stop(Deadline(self._clock, 1.0))
            raise

    def reload(self) -> bool:
        """Reads users file and certificate again, without dropping a connection. Happens by itself when a file changes.

        Users with a changed role have it from their next call; connections of removed ones are closed with 4401. A new
        certificate is for new connections. What can't be used leaves the old in use.

        Returns:
            Whether everything could be read; the log says what could not. False also where the server does not run.
        """
        reloader = self._reloader
        return reloader is not None and self.is_running and reloader.reload()

    def initialize_ssl(self, certificate: str, private_key: str, client_ca: str = "") -> bool:
        """Makes the server speak TLS from its next start, as the reference's InitializeSSL does: it never raises.

        Args:
            certificate: PEM file with the certificate and its chain.
            private_key: PEM file with its key.
            client_ca: authorities for client certificates; empty for none.

        Returns:
            Whether the files can be used; the log says what is wrong with them.
        """
        try:
            TlsContext(certificate, private_key, client_ca)
            self.config = replace(self.config, certificate=certificate, private_key=private_key, client_ca=client_ca)
        except ConfigError as error:
            logger.error("TLS could not be set up: %s", error)
            return False
        return True

    def stop(self, timeout: float | None = None) -> bool:
        """Stops: accepts no more, closes idle clients with 1001, lets running calls end, then closes the rest.

        May be called at any time, from any thread and from a signal handler, and again. From a handler or a callback
        it returns at once, so that these can end.

        Args:
            timeout: seconds until everything is closed by force; default: the drain timeout. 0 only asks, and returns.

        Returns:
            Whether the server has stopped.
        """
        transport = self._transport
        if transport is None or os.getpid() != self._pid:
            return True
        seconds = self.config.limits.connections.drain_timeout if timeout is None else max(0.0, timeout)
        transport.supervisor.request_stop(seconds if timeout != 0 else self.config.limits.connections.drain_timeout)
        in_callback = self._callbacks is not None and self._callbacks.is_own_thread()
        if timeout == 0 or in_callback or not transport.can_wait():
            return transport.supervisor.ended.is_open
        return transport.supervisor.ended.wait(seconds + 1.0)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped, at most `timeout` seconds; returns whether it has."""
        transport = self._transport
        return True if transport is None else transport.supervisor.ended.wait(timeout)

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
        """Whether the server has been started and has not stopped, in this process."""
        transport = self._transport
        return transport is not None and os.getpid() == self._pid and not transport.supervisor.ended.is_open

    @property
    def port(self) -> int:
        """The port it listens on; before the start, the configured one."""
        return self.config.port if self._transport is None else self._transport.port

    @property
    def url(self) -> str:
        """Where clients connect to."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'wss' if self.config.has_tls else 'ws'}://{host}:{self.port}"

    @property
    def connection_count(self) -> int:
        """Open WebSocket connections."""
        return len(self._running().connections()) if self.is_running else 0

    def connections(self) -> list[ConnectionInfo]:
        """The open connections at this moment."""
        found, now = self._running().connections() if self.is_running else [], self._clock()
        return [ConnectionInfo.of(connection, now) for connection in found]

    def topic(
        self,
        name: str,
        *,
        permission: str | None = None,
        retention: Retention | None = None,
        mode: str = ALL,
        filters: Mapping[str, str] | None = None,
        schema: Any = None,
    ) -> Topic:
        """Makes a topic of the host's own, to which it can publish. The node's four are there without.

        Args:
            name: what clients subscribe to: up to 128 printable characters, not beginning with `user/`.
            permission: what a subscriber must be allowed: names of permissions, joined by `|`. None: the role admin only.
            retention: how much is kept for those who come back; default: as the limits `history_...` say.
            mode: what subscribers get who don't say: `all`, or `latest` for a topic of states of which only the newest
                matters.
            filters: what subscribers may filter by, as `{filter member: event member}`; default: `kind`.
            schema: a type that events must convert to (as msgspec has it); default: any.

        Raises:
            ConfigError: the name is taken or malformed, or there are too many topics.
        """
        return self.events.add(name, permission, retention=retention, mode=mode, filters=filters, schema=schema)

    def subprotocol(self, name: str, codec: Codec) -> None:
        """Offers a WebSocket subprotocol of the host's own, from the next start; it goes before the server's own.

        Args:
            name: a token, as clients ask for it (RFC 6455 section 1.9).
            codec: how the JSON-RPC messages of its clients are encoded, both ways.

        Raises:
            ConfigError: the name is no token, or means something already.
        """
        if not _TOKEN.fullmatch(name) or name in self._subprotocols or name.startswith(BEARER_PREFIX):
            raise ConfigError(f"{name[:64]!r} can't be a subprotocol of the host: it is no token, or taken")
        self._subprotocols = {name: codec, **self._subprotocols}

    def gauge(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Adds a number of the host's own to `/metrics`.

        Args:
            name: letters, digits and `_`; not beginning with `dilithion_ws_`, as the server's own do.
            text: what it is, in a line.
            read: gives it whenever somebody asks, without waiting for anything; None leaves it out, as an error does.

        Raises:
            ConfigError: the name is malformed or taken.
        """
        self._gauges.add(name, text, read)

    def publish(self, topic: str, event: Any) -> None:
        """Publishes an event: from any thread, in microseconds, whatever the number of clients and whatever they do.

        Args:
            topic: its name.
            event: anything that can be encoded as JSON and fits the topic's schema (`events.schemas` for the node's).
                Change the node's state first, and publish then.

        Raises:
            UnknownTopicError: there is no such topic.
            EventError: the event can't be published; nothing was.
        """
        self.events.publish(topic, event)

    def send_to_user(self, name: str, event: Any) -> None:
        """Publishes an event that only one user can read, under the topic `user/<name>`. It waits in the log for a user
        who is not connected, as long as the limits `history_...` let it.

        Raises:
            EventError: the event can't be published; nothing was.
        """
        self.events.publish(USER_PREFIX + name, event)

    def _sessions(self) -> list[Session]:
        return [connection.session for connection in self._running().connections()]

    def _is_draining(self) -> bool:
        return self._transport is None or self._transport.loop.hub.stopping

    def _may_read(self, session: Session, topic: Topic) -> bool:
        return self._keeper is not None and self._keeper.may_read(session, topic)

    def _sink(self, connection_id: int) -> Subscriber | None:
        transport = self._transport
        return None if transport is None else transport.feed(connection_id)

    def send(self, connection_id: int, message: Message) -> None:
        """Sends one message to one client: text for str, binary for bytes. Never waits.

        Raises:
            ConnectionNotFoundError: the connection is not open.
            OutboxFullError: the client does not read, and what waits for it has reached the outbox limit.
            NotRunningError: the server does not run.
        """
        self._running().send(connection_id, encode_message(message))

    def broadcast(self, message: Message) -> int:
        """Sends one message to all clients, encoded once; returns how many it reached. Never waits.

        A client that has fallen behind by its whole outbox is closed with 4108 instead.
        """
        return self._running().broadcast(encode_message(message))

    def close_connection(self, connection_id: int, code: int = 1000, reason: str = "") -> None:
        """Starts the closing handshake with one client.

        Args:
            connection_id: which.
            code: 1000 to 1014 without 1004 to 1006, or 3000 to 4999 (RFC 6455 section 7.4).
            reason: text for a person; cut at 123 bytes.

        Raises:
            ConnectionNotFoundError: the connection is not open.
            ValueError: the code can't be sent.
        """
        if not (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) and not 3000 <= code <= 4999:
            raise ValueError(f"close code {code} can't be sent: 1000-1003, 1007-1014 and 3000-4999 can")
        self._running().close(connection_id, code, reason)

    def _running(self) -> Transport:
        if self._transport is not None and os.getpid() != self._pid:
            raise ForkError("the process was forked after start(); the child must make a server of its own")
        if self._transport is None or self._transport.supervisor.ended.is_open:
            raise NotRunningError("the server is not running; call start() first")
        return self._transport
