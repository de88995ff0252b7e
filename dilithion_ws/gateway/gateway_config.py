"""Settings of the gateway: where its node is, and what polling it may cost."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from .. import ConfigError
from ..config.fields import Setting, SettingsGroup, limit, option, settings_of
from ..config.sources import SettingsTable

__all__ = ["DIALECTS", "GATEWAY_SETTINGS", "GATEWAY_TABLE", "ROUTES", "GatewayConfig"]

DIALECTS = ("auto", "dilithion", "core")
ROUTES = ("api", "pages", "rest")

_PREFIX = "rpcgateway"
_MIB = 1024 * 1024


def _limit(key: str, unit: str, description: str, ge: float) -> msgspec.Meta:
    """Declare a number whose key has the prefix of the gateway."""
    meta = limit(unit, description, ge=ge)
    return msgspec.Meta(ge=meta.ge, le=meta.le, description=description, extra={"unit": unit, "key": _PREFIX + key})


class GatewayConfig(SettingsGroup, frozen=True, kw_only=True):
    """The settings of a gateway. A value out of range raises `ConfigError`.

    Attributes:
        upstream: the node's URL, such as `http://127.0.0.1:8332`; a path in it (`/wallet/name`) is kept. Several ones,
            joined by commas, are nodes of one chain, of which the next one takes over if one fails.
        failover_wallet: whether calls about wallets go to another node than the first one, too.
        upstream_user, upstream_password: the gateway's account at the node.
        upstream_cookie: the node's cookie file, instead of an account; it is read again whenever the node rewrites it.
        dialect: `dilithion`, `core` (the Bitcoin Core family), or `auto`: detected from the node's answers.
        zmq: addresses of the node's ZeroMQ publishers; one is enough if the node publishes everything there.
        poll_interval: seconds between two polls of the node.
        poll_longest: the longest interval, used if polling is slow or fails.
        poll_share: the share of the time that polling may take.
        poll_timeout: seconds for one answer to a poll.
        upstream_connections: calls that are at the node at the same time.
        catch_up: blocks that are published one by one after an absence; beyond it the log starts a new epoch.
        mempool: transactions of the mempool that are tracked.
        wait: whether one call may wait for the next block in a node that serves others meanwhile.
        limited_calls: calls that wait while the node limits their rate; they leave as batches.
        routes: which paths of the node are passed on: `api` (`/api/v1` of a Dilithion node), `pages` (its `/wallet`,
            `/miner`, `/api/stats` and `/api/health`), `rest` (`/rest` of Bitcoin Core).
        public_api: whether clients need no login for these.
        listen_port: where the gateway listens, in place of the server's `port`. The node reads that key, too, and starts
            a WebSocket server of its own there.
        statistics: URL of the port with the node's statistics and metrics.
        cache_size: bytes of results that are kept until the tip changes.
        cache_age: seconds for which they are kept at most.
        answer_size: bytes of one answer of the node.
    """

    upstream: Annotated[str, option("rpcgatewayupstream", "URL of the node, or several of one chain.")] = (
        "http://127.0.0.1:8332"
    )
    failover_wallet: Annotated[
        bool, option("rpcgatewayfailoverwallet", "Let calls about wallets go to another node than the first, too.")
    ] = False
    upstream_user: Annotated[str, option("rpcgatewayuser", "The gateway's account at the node (default: rpcuser).")] = (
        ""
    )
    upstream_password: Annotated[
        str, option("rpcgatewaypassword", "Password of that account (default: rpcpassword).", secret=True)
    ] = ""
    upstream_cookie: Annotated[
        str, option("rpcgatewaycookiefile", "The node's cookie file, instead of an account.", kind="path")
    ] = ""
    dialect: Annotated[str, option("rpcgatewaydialect", "auto, dilithion, or core for the Bitcoin Core family.")] = (
        "auto"
    )
    zmq: Annotated[tuple[str, ...], option("rpcgatewayzmq", "The node's ZeroMQ publishers, as tcp://HOST:PORT.")] = ()
    poll_interval: Annotated[float, _limit("pollinterval", "s", "Seconds between two polls of the node.", 0.01)] = 1.0
    poll_longest: Annotated[float, _limit("polllongest", "s", "Longest interval between two polls.", 0.01)] = 30.0
    poll_share: Annotated[
        float, _limit("pollshare", "", "Share of the time that polling may take, at most 1.", 0.001)
    ] = 0.2
    poll_timeout: Annotated[float, _limit("polltimeout", "s", "Seconds for one answer to a poll.", 0.01)] = 30.0
    upstream_connections: Annotated[int, _limit("connections", "calls", "Calls at the node at the same time.", 1)] = 8
    catch_up: Annotated[int, _limit("catchup", "blocks", "Blocks published one by one after an absence.", 1)] = 2000
    mempool: Annotated[int, _limit("mempool", "transactions", "Transactions of the mempool that are tracked.", 0)] = (
        100_000
    )
    wait: Annotated[
        bool, option("rpcgatewaywait", "Have one call wait for the next block in a node of the Bitcoin Core family.")
    ] = True
    limited_calls: Annotated[
        int, _limit("limitedcalls", "calls", "Calls that wait while the node limits their rate.", 0)
    ] = 100
    routes: Annotated[
        tuple[str, ...],
        option("rpcgatewayroutes", "Paths of the node to pass on: api, pages and rest, of which api is the default."),
    ] = ("api",)
    public_api: Annotated[bool, option("rpcgatewaypublicapi", "Serve these paths without a login.")] = False
    listen_port: Annotated[
        int, _limit("port", "", "Port to listen on (default: rpcwebsocketport, or the node's port plus one).", 0)
    ] = 0
    statistics: Annotated[
        str, option("rpcgatewaystatistics", "URL of the node's statistics (default: its port plus two).")
    ] = ""
    cache_size: Annotated[
        int, _limit("cachesize", "bytes", "Bytes of results that are kept until the tip changes; 0 for none.", 0)
    ] = 16 * _MIB
    cache_age: Annotated[float, _limit("cacheage", "s", "Seconds for which they are kept at most.", 0)] = 60.0
    answer_size: Annotated[int, _limit("answersize", "bytes", "Bytes of one answer of the node.", 1024)] = 64 * _MIB

    @property
    def has_account(self) -> bool:
        """Whether it has credentials of its own for the node."""
        return bool(self.upstream_user or self.upstream_cookie)

    def __post_init__(self) -> None:
        super().__post_init__()
        for url in self.upstreams:
            _check_url(url)
        if self.upstream_cookie and len(self.upstreams) > 1:
            raise _error("cookiefile", "rpcgatewaycookiefile is of one node; several need rpcgatewayuser and -password")
        if bool(self.upstream_user) != bool(self.upstream_password):
            raise _error("user", "rpcgatewayuser and rpcgatewaypassword belong together: set both, or neither")
        if self.dialect not in DIALECTS:
            raise _error("dialect", f"dialect (rpcgatewaydialect) is {self.dialect!r}; it takes {', '.join(DIALECTS)}")
        if self.poll_longest < self.poll_interval:
            raise ConfigError(
                "poll_longest (rpcgatewaypolllongest) is shorter than rpcgatewaypollinterval",
                "rpcgatewaypolllongest",
                "rpcgatewaypollinterval",
            )
        if self.poll_share > 1:
            raise _error(
                "pollshare", f"poll_share (rpcgatewaypollshare) is {self.poll_share}; it takes a share, at most 1"
            )
        for name in self.routes:
            if name not in ROUTES:
                raise _error("routes", f"routes (rpcgatewayroutes) has {name[:64]!r}; it takes {', '.join(ROUTES)}")
        for address in self.zmq:
            if not re.fullmatch(r"tcp://.+:\d{1,5}|ipc://.+", address):
                raise _error("zmq", f"zmq (rpcgatewayzmq) has {address!r}; it takes tcp://HOST:PORT or ipc://PATH")

    def __repr__(self) -> str:
        return f"GatewayConfig(upstream={self.upstream!r}, dialect={self.dialect!r})"

    @property
    def upstreams(self) -> tuple[str, ...]:
        """The URLs of the nodes, the preferred one first."""
        return tuple(url.strip() for url in self.upstream.split(","))

    @property
    def statistics_url(self) -> str:
        """The URL of the node's statistics: as configured, or on the port that is the node's own plus two."""
        parts = urlsplit(self.upstreams[0])
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return self.statistics or f"http://{host}:{min(self.port + 2, 65535)}"

    @property
    def port(self) -> int:
        """The node's port."""
        parts = urlsplit(self.upstreams[0])
        return parts.port or (443 if parts.scheme == "https" else 80)


def _check_url(url: str) -> None:
    """Raise ConfigError if a text is not the URL of a node."""
    parts = urlsplit(url)
    try:
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise _error("upstream", f"upstream (rpcgatewayupstream) is {url!r}; it takes http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise _error(
            "upstream", "upstream (rpcgatewayupstream) has credentials in it; set rpcgatewayuser and -password"
        )


def _error(key: str, message: str) -> ConfigError:
    return ConfigError(message, _PREFIX + key)


GATEWAY_SETTINGS: dict[str, Setting] = {setting.key: setting for setting in settings_of(GatewayConfig)}
"""Every key of the gateway."""

GATEWAY_TABLE = SettingsTable(GATEWAY_SETTINGS, _PREFIX)
