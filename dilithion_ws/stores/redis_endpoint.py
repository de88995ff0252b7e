"""Where Redis is: one server, the master that Sentinels name, or a node of a Cluster.

    redis://[USER:PASSWORD@]HOST:PORT/DB               one server; rediss:// for TLS
    unix:///PATH?db=DB                                 its socket
    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB    the present master of a service; rediss+sentinel:// too
    redis+cluster://HOST:PORT,HOST:PORT                the node of a Cluster with the keys; rediss+cluster:// too

Each takes `?prefix=NAME` for the names of the keys, and the options of redis-py, such as `ssl_ca_certs`, `ssl_certfile`
and `ssl_keyfile`; Sentinels also `sentinel_username` and `sentinel_password`.

The scripts need all keys of a server in one place. So in a Cluster the prefix is a hash tag, `{NAME}:`, which puts them
into one slot, and this module connects to the node that has it, like to a server by itself. After a fault it looks again
who that is.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from ..errors import ConfigError

__all__ = ["FAULTS", "RedisEndpoint"]

FAULTS = (redis.RedisError, OSError)
"""What a command raises if Redis cannot execute it."""

_DEFAULT_PREFIX = "dilithion-ws"
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


_UNREADABLE = (
    "the URL of Redis can't be read: its port is not a number, it has an option that redis-py does not have, or a "
    "password whose characters / ? # @ are not encoded (%2F, %3F, %23, %40)"
)


class _UrlError(ValueError):
    """What is wrong with a URL, in words without a password."""


class RedisEndpoint:
    """A Redis, wherever its master is. Threads may share it.

    Args:
        url: see above.
        timeout: seconds for connecting, and for an answer.

    Attributes:
        prefix: what the names of all keys begin with.

    Raises:
        ConfigError: the URL is not one.
    """

    def __init__(self, url: str, timeout: float) -> None:
        try:
            scheme, options, hosts, path = _split(url)
            self._kind = scheme.partition("+")[2]
            name = options.pop("prefix", _DEFAULT_PREFIX)
            self._options = _connection_options(scheme, options, hosts[0] if hosts else "", path)
            self._hosts = [_host_and_port(host) for host in hosts]
            _check(self._options)
        except (ValueError, TypeError) as error:
            text = str(error) if isinstance(error, _UrlError) else _UNREADABLE
            raise ConfigError(f"rpcwebsocketeventstore: {text}") from None
        if not name.strip() or not name.isprintable() or set("{}*?[]\\") & set(name):
            raise ConfigError(f"rpcwebsocketeventstore: {name[:64]!r} is not a prefix for names of keys")
        self.prefix = f"{{{name}}}:" if self._kind == "cluster" else f"{name}:"
        self._options |= {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        self._service = unquote(path.partition("/")[0])
        if self._kind == "sentinel" and not self._service:
            raise ConfigError(
                "rpcwebsocketeventstore: the URL of Sentinels needs the name of a service after the hosts"
            )
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The connection pool of the server that has the keys, as a `redis.Redis`.

        Raises:
            redis.RedisError: no node of a Cluster says who has them.
        """
        client = self._client
        if client is None:
            client = self._client = self._find()
        return client

    def on_fault(self) -> None:
        """Record that a command has failed. Another node of a Cluster may have the keys now."""
        if self._kind == "cluster":
            self._client = None  # without closing it, since another thread may be in the middle of a command

    def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            with contextlib.suppress(*FAULTS):
                self._client.close()

    def _find(self) -> Any:
        if self._kind == "cluster":
            return self._find_node()
        if self._kind == "sentinel":
            return self._make_master_client()
        return redis.Redis(connection_pool=redis.ConnectionPool(**self._options))

    def _make_master_client(self) -> Any:
        """Return a client each of whose connections asks the Sentinels for the master."""
        options = dict(self._options)
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        own = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
        shared = {name: value for name, value in options.items() if name not in ("username", "password", "db")}
        sentinel: Any = Sentinel(self._hosts, sentinel_kwargs={**shared, **own}, **options)  # type: ignore[no-untyped-call]
        return sentinel.master_for(self._service)

    def _find_node(self) -> Any:
        """Return a client of the node that has the slot of the keys."""
        options = {name: value for name, value in self._options.items() if name not in ("db", "connection_class")}
        if "connection_class" in self._options:
            options["ssl"] = True
        nodes = [ClusterNode(host, port) for host, port in self._hosts]  # type: ignore[no-untyped-call]
        try:
            with RedisCluster(startup_nodes=nodes, **options) as cluster:
                node = cluster.get_node_from_key(self.prefix)
                found = [(one.host, one.port) for one in cluster.get_nodes()]
        except redis.exceptions.RedisClusterException as error:
            raise redis.ConnectionError(f"the Cluster can't be used: {error}") from None
        self._hosts = list(dict.fromkeys((*found, *self._hosts)))  # those of the URL may be gone one day
        return redis.Redis(host=node.host, port=node.port, **options)


def _split(url: str) -> tuple[str, dict[str, str], list[str], str]:
    """Return the scheme of a URL, its options, its hosts, the first with the user before it, and its path."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    netloc, _, path = rest.partition("/")
    if scheme == "unix":
        return scheme, dict(parse_qsl(query)), [], rest
    user, at, hosts = netloc.rpartition("@")
    first, *others = hosts.split(",")
    if not all((first, *others)):
        raise _UrlError("the URL has no host")
    return scheme, dict(parse_qsl(query)), [f"{user}{at}{first}", *others], path


def _connection_options(scheme: str, options: dict[str, str], first: str, path: str) -> dict[str, Any]:
    """Return the options of a connection, as redis-py reads them from the URL of one server."""
    kind, _, form = scheme.partition("+")
    if form not in ("", "sentinel", "cluster") or kind not in ("redis", "rediss", "unix") or (form and kind == "unix"):
        raise _UrlError(f"{scheme[:32]!r} is not the scheme of a Redis")
    query = f"?{urlencode(options)}" if options else ""
    if kind == "unix":
        return _parse(f"unix://{path}{query}")
    database = path.partition("/")[2] if form else path
    found = _parse(f"{kind}://{first}/{database}{query}")
    if form:
        found = {name: value for name, value in found.items() if name not in ("host", "port")}
    return found


def _check(options: dict[str, Any]) -> None:
    """Raise TypeError if redis-py does not know an option."""
    known = {name: value for name, value in options.items() if name not in _SENTINEL_OPTIONS}
    connection_class = known.pop("connection_class", redis.Connection)
    if connection_class is SSLConnection:
        known.setdefault("ssl_check_hostname", True)
    connection_class(**known)


def _host_and_port(text: str) -> tuple[str, int]:
    """Return a host and its port, of what may have a user before it."""
    options = _parse(f"redis://{text}")
    return options.get("host", "localhost"), options.get("port", 6379)


def _parse(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options
