"""The gateway: the host of a `WebSocketServer` whose node is reached by HTTP."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from .. import Config, ConfigError, Retention, RpcTable, WebSocketServer
from ..config.exposure import check_exposure
from ..util.clock import Deadline, monotonic
from .block_waiters import BlockWaiters
from .dialects.base import Dialect
from .dialects.detection import dialect_named
from .failover import ActiveNode, Failover, FailoverUpstream
from .forwarder import Forwarder, WaitingCalls
from .gateway_config import GatewayConfig
from .help_reader import HelpReader
from .http_upstream import HttpUpstream, NodeAccount
from .limited_calls import LimitedCalls
from .long_poll import LongPoll
from .node_blocks import BlockHistory
from .node_client import CircuitBreaker, NodeClient
from .node_routes import NodeRoutes
from .node_status import NodeState
from .poller_thread import NODE_TOPIC, PollerThread
from .published_state import PublishedState
from .shared_reads import SharedReads
from .snapshots import VIEWS_TOPIC
from .template_waiters import TemplateWaiters
from .zmq_listener import ZmqListener

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Gateway"]

_WATCHING = 4
"""Connections for watching: for polls, for a call that waits, to try whether the node can do both, and for reading the
chain for clients that resume from a block."""

_MOMENT = 2.0
"""Seconds for which `stop` waits for each thread at most."""


class Gateway:
    """Gives the clients of a node that speaks HTTP all that a `WebSocketServer` has.

    Calls go on to the node; who may make which is decided here. The node is watched by one gateway of those that share
    a Redis, and what happens to it is published to the topics `blocks`, `mempool`, `peers`, `mining` and `node`.

    Args:
        config: where the node is.
        server: everything else: address, users, TLS, limits, event store.
        sockets: see `WebSocketServer`.
        clock: for tests.

    Raises:
        ConfigError: a setting can't be used, or an extra is missing.

    Example:
        >>> gateway = Gateway(GatewayConfig(upstream="http://127.0.0.1:8332"), Config(port=0))
        >>> with gateway:
        ...     gateway.server.is_running
        True
    """

    def __init__(
        self,
        config: GatewayConfig,
        server: Config | None = None,
        *,
        sockets: Sequence[socket.socket] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        server = Config() if server is None else server
        self.rpc = RpcTable()
        self.server = WebSocketServer(self.rpc, server, sockets=sockets)
        self.server.topic(
            NODE_TOPIC,
            permission="READ_BLOCKCHAIN",
            retention=self.server.events.topic("blocks").log.retention,
            mode="latest",
            schema=NodeState,
        )
        if server.event_store != "memory":
            kept = Retention(1, math.inf, server.limits.events.event_size)
            self.server.topic(VIEWS_TOPIC, retention=kept)  # for the role admin alone
        user, password = config.upstream_user or server.user, config.upstream_password or server.password
        account = NodeAccount(user, password, config.upstream_cookie)
        _check_account(config, server)
        # Two ways to the node, so that clients' calls and watching never wait for one another.
        active = ActiveNode(config.upstreams)
        calls, polls = (
            FailoverUpstream([HttpUpstream(config, account, size, url) for url in config.upstreams], active)
            for size in (config.upstream_connections, _WATCHING)
        )
        breaker, dialect = CircuitBreaker(clock), dialect_named(config.dialect)
        self.node, watched = (NodeClient(upstream, dialect, clock, breaker) for upstream in (calls, polls))
        self._wallet_node = self.node
        if len(config.upstreams) > 1 and not config.failover_wallet:
            # What holds for the first node, its pauses and its rate, does not hold for the one that is used.
            self._wallet_node = NodeClient(calls.upstreams[0], dialect, clock, CircuitBreaker(clock))
        nobody = NodeAccount("", "", "")
        statistics = HttpUpstream(config, nobody, config.upstream_connections, config.statistics_url)
        self._upstreams: Sequence[FailoverUpstream | HttpUpstream] = (calls, polls, statistics)
        self.poller = PollerThread(watched, self.server, config, self._found, clock)
        self.poller.failover = Failover(polls, active, breaker, config.poll_timeout)
        self._published = published = PublishedState(self.server, self.node, self.poller, clock)
        reads = SharedReads(clock, config.cache_size, config.cache_age)
        self._block_waiters = BlockWaiters(published.tip, clock)
        nodes = dict.fromkeys((self.node, self._wallet_node))
        self._waiting = WaitingCalls(
            {node: LimitedCalls(reads, clock, config.limited_calls) for node in nodes},
            TemplateWaiters(self._block_waiters, clock),
        )
        self._forwarder = Forwarder((self.node, self._wallet_node), reads, published, self._waiting)
        NodeRoutes(calls, statistics, reads, published).register(self.server, config)
        self._notifications: ZmqListener | LongPoll
        if config.zmq:
            self._notifications = ZmqListener(config.zmq, self.poller.hint, self.poller.schedule)
        else:
            may_wait = self.poller.is_leading if config.wait else lambda: False
            self._notifications = LongPoll(watched, may_wait, self.poller.hint, clock)
        history = BlockHistory(watched, config.poll_timeout, self.poller)
        self.server.history("blocks", history.read, history.find)
        self.server.transactions(history.transactions, history.pending)
        self.rpc.before_describing(HelpReader(self.node, self.rpc, config.poll_timeout, clock).refresh)
        self._block_waiters.register(self.rpc)
        self.rpc.register("getnodestate", published.node_state, permission="READ_BLOCKCHAIN", position_of=NODE_TOPIC)
        for name, text, read in (
            ("node_up", "Whether the node answers", lambda: published.node_state()["kind"] != "down"),
            ("node_progress", "The part of the blocks that it has, from 0 to 1", published.progress),
            ("node_height", "The last published block", lambda: (tip := published.tip()) and tip.height),
            ("watching", "Whether this gateway is the one that polls the node", self.poller.is_leading),
        ):
            self.server.gauge(f"dilithion_gateway_{name}", text, read)
        self._forwarder.register(self.rpc, dialect)

    def start(self) -> Self:
        """Start to serve. The node may be down. Raise what `WebSocketServer.start` raises."""
        self.server.start()
        self._block_waiters.start()
        for limited in self._waiting.limited.values():
            limited.start()
        self.poller.start()
        self._notifications.start()
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Stop. See `WebSocketServer.stop`.

        The threads that watch the node end before the server does. One that the node keeps waiting is left behind, so
        that the server has a quarter of the time at least.
        """
        limit = self.server.config.limits.connections.drain_timeout if timeout is None else timeout
        deadline, moment = Deadline(monotonic, limit), min(_MOMENT, limit / 4)
        self._waiting.templates.stop()  # before those who wait for blocks are answered, of which they are some
        for part in (
            self._notifications,
            self._block_waiters,
            *self._waiting.limited.values(),
            self.poller,
        ):
            part.stop(moment)
        stopped = self.server.stop(timeout and deadline.remaining())
        for upstream in self._upstreams:
            upstream.close()
        return stopped

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        name = "unknown" if self.node.dialect is None else self.node.dialect.name
        return f"<Gateway of a {name} node, {self.server!r}>"

    @property
    def waiting_calls(self) -> int:
        """The number of calls that wait for a block."""
        return len(self._block_waiters)

    def _found(self, dialect: Dialect) -> None:
        self._forwarder.register(self.rpc, dialect)  # first: the help reader waits for the node's dialect
        self.node.dialect = self._wallet_node.dialect = dialect


def _check_account(config: GatewayConfig, server: Config) -> None:
    """Raise ConfigError if any client could use the gateway's account, or the node's cookie would be overwritten."""
    check_exposure(server, config.has_account)
    cookie, other = server.cookie_file, config.upstream_cookie
    if cookie and other and os.path.realpath(cookie) == os.path.realpath(other):
        raise ConfigError(
            f"{cookie} is the node's cookie (rpcgatewaycookiefile): the gateway's own needs another file",
            "rpcwebsocketcookiefile",
        )
