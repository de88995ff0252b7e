"""Build a server: the one place where its parts are joined.

Each object gets everything that it needs from its constructor, so the order here is the order of dependence: what knows
nothing of the application (mailbox, registry, pool), then access control and JSON-RPC, then the service that joins them,
and last the transport, which calls the service.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ..auth.authenticator import Authenticator
from ..auth.credential_files import CredentialFiles
from ..config.config import Config, parse_method_timeout, parse_network
from ..config.limits import Limits, limit_reached
from ..events.hub import EventHub
from ..events.store import EventStore
from ..net.connection_limiter import ConnectionLimiter
from ..net.connection_registry import ConnectionRegistry
from ..net.mailbox import Mailbox
from ..net.reactor import Reactor
from ..net.shutdown import Resource
from ..net.tls import TlsContext
from ..net.transport import Transport, make_pool
from ..protocol.message_encoder import Codec
from ..rpc.dispatcher import Dispatcher
from ..rpc.executor import Executor
from ..rpc.table import RpcTable
from ..session import Session
from ..util.clock import Clock, Deadline
from ..util.file_watcher import FileWatcher
from ..util.memory_limit import available_memory
from ..util.open_files import available_files
from .access_control import AccessControl
from .callbacks import Callbacks
from .health import HealthReports
from .history_threads import HistoryThreads
from .http_app import HttpApp, HttpAppParts
from .http_routes import HttpRoutes
from .login_method import LoginMethod
from .metrics import HostGauges, PrometheusCollector
from .openrpc import OpenRpcDocument
from .ping_method import ping_method
from .raw_messages import MessageHandler
from .reloader import Reloader
from .rpc_service import RpcService, ServiceParts
from .statistics import StatisticsSource
from .statistics_method import StatisticsMethod
from .subscription_methods import SubscriptionMethods
from .upgrades import UpgradePolicy

__all__ = ["Host", "RunningServer", "assemble"]

logger = logging.getLogger("dilithion_ws")

_CONNECTION_SIZE = 10_000
"""Bytes that a connection takes, as a rule, with its buffers in the process."""


class Host(msgspec.Struct, frozen=True):
    """What the embedding program provides.

    Attributes:
        rpc: its methods.
        events: its topics.
        store: where events are kept, or None for memory.
        subprotocols: what clients may ask for, each with its encoding.
        gauges: its numbers for `/metrics`.
        routes: its HTTP routes.
        health: what it reports for `/health`.
        on_connect, on_disconnect: its callbacks.
        on_message: its handler of messages.
        sockets: its listening sockets; empty if the server makes its own.
    """

    rpc: RpcTable
    events: EventHub
    store: EventStore | None
    subprotocols: Mapping[str, Codec | None]
    gauges: HostGauges
    routes: HttpRoutes
    health: HealthReports
    on_connect: Callable[[Session], None] | None = None
    on_disconnect: Callable[[Session, int, str], None] | None = None
    on_message: MessageHandler | None = None
    sockets: Sequence[socket.socket] = ()


class RunningServer(msgspec.Struct, frozen=True):
    """What a server consists of between `start` and `stop`.

    Attributes:
        registry: the connections.
        transport: sockets and threads.
        callbacks: calls the host's callbacks.
        watcher: reads users and certificate again, when their files change or on request.
        statistics: takes statistics.
        history: replays the host's chain.
    """

    registry: ConnectionRegistry
    transport: Transport
    callbacks: Callbacks
    watcher: FileWatcher
    statistics: StatisticsSource
    history: HistoryThreads


class _Files:
    """The credential files, their watcher, and who verifies passwords, to be stopped after the server."""

    def __init__(self, files: CredentialFiles, watcher: FileWatcher, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._files = files
        self._watcher = watcher

    def stop(self, deadline: Deadline) -> None:
        self._watcher.stop()
        self._authenticator.close()
        self._files.close()


def assemble(config: Config, clock: Clock, host: Host) -> RunningServer:
    """Build and start a server.

    Raises:
        StartError: the address cannot be listened on, or there is no room for the threads. Nothing is left running.
        ConfigError: a file cannot be used.
    """
    files = CredentialFiles(config, clock)
    watcher = FileWatcher(files.watched_paths())  # before they are read, so that no change is missed
    try:
        return _assemble(config, clock, host, files, watcher)
    except BaseException:
        watcher.stop()
        files.close()
        raise


def _assemble(config: Config, clock: Clock, host: Host, files: CredentialFiles, watcher: FileWatcher) -> RunningServer:
    limits, events = config.limits, host.events
    authenticator = Authenticator(config, files.load_users(), clock, files.audit)
    access = AccessControl(config, authenticator, clock, files.audit)
    tls = _make_tls(config) if config.has_tls else None

    mailbox = Mailbox()
    registry = ConnectionRegistry(limits, mailbox, [shard.wake for shard in events.shards])
    pool = make_pool(config, len(events.shards), mailbox.waker)
    proxies = [parse_network(text, "trusted_proxies") for text in config.trusted_proxies]
    available = available_files()
    if available < limits.connections.connections:
        logger.warning(
            "the process may open %d files more, which is too few for the %s: raise it (ulimit -n, LimitNOFILE)",
            available,
            limit_reached(limits, "connections"),
        )
    _warn_about_memory(limits, len(events.topics()))
    limiter = ConnectionLimiter(limits, available, access, proxies)
    statistics = StatisticsSource(registry, limiter, pool, host.rpc, events, authenticator, files.audit)

    builtin = {
        "authenticate": LoginMethod(access, events, registry).method(),
        **SubscriptionMethods(events, registry, access).methods(),
        "rpc.ping": ping_method(),
        "rpc.statistics": StatisticsMethod(statistics, clock).method(),
    }
    openrpc = OpenRpcDocument(host.rpc, builtin, access, events)
    builtin[openrpc.method.name] = openrpc.method
    dispatcher = Dispatcher(host.rpc, _make_executor(config, clock, events), access, builtin)
    metrics = PrometheusCollector(statistics, host.gauges)
    http = HttpApp(
        HttpAppParts(access, dispatcher, openrpc, metrics, registry, config.page, host.routes, host.health, events)
    )
    callbacks = Callbacks(host.on_connect, host.on_disconnect, limits.calls.callback_backlog)
    upgrades = UpgradePolicy(access, limits, host.subprotocols, host.rpc)
    service = RpcService(ServiceParts(access, upgrades, dispatcher, http, events, callbacks, host.on_message))

    reactor = Reactor(config, clock, service, registry, limiter)
    stores = [host.store] if host.store is not None else []
    history = HistoryThreads(events.chains.all())
    resources: list[Resource] = [callbacks, history, *stores, _Files(files, watcher, authenticator)]
    transport = Transport(reactor, pool, tls, events.shards, resources, host.sockets)
    reloader = Reloader(files, authenticator, tls, registry, events)
    server = RunningServer(registry, transport, callbacks, watcher, statistics, history)
    _start(server, host, files, reloader, clock)
    return server


def _make_executor(config: Config, clock: Clock, events: EventHub) -> Executor:
    return Executor(config.limits, clock, events, dict(map(parse_method_timeout, config.method_timeouts)))


def _make_tls(config: Config) -> TlsContext:
    return TlsContext(config.certificate, config.private_key, config.client_ca, config.require_client_certificate)


def _warn_about_memory(limits: Limits, topics: int) -> None:
    """Log a warning if the process may not take what its connections and the histories of its topics need at most."""
    available = available_memory()
    needed = limits.connections.connections * _CONNECTION_SIZE + topics * limits.history.history_size
    if available is not None and available < needed:
        logger.warning(
            "the process may take %d MB more, and the %s with the histories of %d topics (rpcwebsockethistorysize) needs "
            "up to %d MB: raise it (ulimit -v, MemoryMax), or lower these",
            available >> 20,
            limit_reached(limits, "connections"),
            topics,
            needed >> 20,
        )


def _start(server: RunningServer, host: Host, files: CredentialFiles, reloader: Reloader, clock: Clock) -> None:
    """Start what was assembled. Stop it again if a part cannot be started."""
    try:
        files.write_cookie()
        if host.store is not None:
            host.store.start(host.events)
    except BaseException:
        server.transport.abandon()
        raise
    try:
        server.callbacks.start()
        server.history.start()
        server.watcher.start(reloader.reload)
        server.transport.start()
    except BaseException:
        server.callbacks.stop(Deadline(clock, 0.1))
        server.history.stop(Deadline(clock, 0.1))
        if host.store is not None:
            host.store.stop(Deadline(clock, 1.0))
        raise
