"""Settings: every bound of the server with its default, in one place, checked when it is made.

A limit is a field of `Limits`. Its configuration key is derived from the field's name (`setting_name`), so that an
error can always tell the reader what to change: `limit_reached` writes that sentence.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ConfigError
from ..util.ip import is_loopback

__all__ = ["Config", "Limits", "limit_reached", "number_text", "parse_network", "parse_rate", "setting_name"]

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

KIB = 1024
MIB = 1024 * KIB


_LONGEST = 1e8
"""Seconds that any time may be set to: three years, which clocks and system calls can still take."""


def _limit(default: float, unit: str, text: str, *, minimum: float = 1, maximum: float = math.inf) -> Any:
    maximum = min(maximum, _LONGEST) if unit == "s" else maximum
    metadata = {"unit": unit, "help": text, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Limits:
    """Every bound of one server.

    Sizes are in bytes and times in seconds. A value out of range raises `ConfigError` at construction.
    """

    connections: int = _limit(1024, "connections", "open connections at most", maximum=1_000_000)
    connections_per_address: int = _limit(64, "connections", "open connections of one address; loopback is exempt")
    handshake_timeout: float = _limit(10.0, "s", "from accept to the end of the upgrade", minimum=0.01)
    close_timeout: float = _limit(10.0, "s", "from a close frame to the peer's own", minimum=0.01)
    linger_timeout: float = _limit(1.0, "s", "from our last byte to the peer's end of stream", minimum=0.01)
    header_size: int = _limit(16 * KIB, "bytes", "request line and headers of the upgrade", minimum=256)
    message_size: int = _limit(2 * MIB, "bytes", "one received message, all its fragments together", minimum=125)
    result_size: int = _limit(10 * MIB, "bytes", "one encoded result, or all results of one batch", minimum=64)
    batch_size: int = _limit(100, "calls", "calls in one batch")
    json_depth: int = _limit(32, "levels", "nesting of arrays and objects in a message", maximum=200)
    workers: int = _limit(16, "threads", "threads in the pool: a leader, a spare, the rest for slow calls", minimum=3)
    queue: int = _limit(64, "calls", "slow calls that wait for a worker", minimum=0)
    in_flight: int = _limit(20, "calls", "slow calls of one connection at a time; past it, it is not read")
    call_timeout: float = _limit(30.0, "s", "from a call's arrival to its answer", minimum=0.001)
    outbox: int = _limit(1 * MIB, "bytes", "unsent bytes of one connection; past it, it is not read", minimum=KIB)
    write_stall: float = _limit(10.0, "s", "without progress in sending to a client before it is cut", minimum=0.01)
    ping_interval: float = _limit(20.0, "s", "of silence before a ping is sent", minimum=0.01)
    pong_timeout: float = _limit(20.0, "s", "of silence after a ping before the client is cut", minimum=0.01)
    drain_timeout: float = _limit(10.0, "s", "for running calls and close handshakes at stop", minimum=0.0)
    stall_after: float = _limit(0.02, "s", "in a handler before the lead passes to another worker", minimum=0.001)
    slow_after: float = _limit(0.002, "s", "mean duration past which a method's calls go to the pool", minimum=0.0)
    authentication_timeout: float = _limit(
        10.0, "s", "from the upgrade to a good login, where one is needed", minimum=0.01
    )
    login_failures: int = _limit(5, "logins", "failed logins before a connection is closed and an address locked out")
    lockout: float = _limit(60.0, "s", "the first lock-out of an address; each further one lasts twice as long")
    lockout_longest: float = _limit(900.0, "s", "the longest lock-out")
    login_workers: int = _limit(2, "logins", "passwords checked at a time")
    login_queue: int = _limit(64, "logins", "logins that wait to be checked", minimum=0)
    login_queue_per_address: int = _limit(16, "logins", "that one address keeps in a full queue when others come")
    login_remembered: float = _limit(300.0, "s", "for which a checked password need not be computed again", minimum=0.0)
    tracked_clients: int = _limit(10_000, "clients", "whose rates and failed logins are remembered", minimum=10)
    call_burst: int = _limit(1000, "calls", "of one user or address at once, of all methods together")
    call_rate: float = _limit(200.0, "calls/s", "of one user or address, of all methods together", minimum=0.001)
    byte_burst: int = _limit(16 * MIB, "bytes", "received from one address at once", minimum=KIB)
    byte_rate: float = _limit(2.0 * MIB, "bytes/s", "received from one address", minimum=1)
    message_burst: int = _limit(2000, "messages", "received from one address at once")
    message_rate: float = _limit(400.0, "messages/s", "received from one address", minimum=0.001)
    connection_burst: int = _limit(64, "connections", "accepted from one address at once")
    connection_rate: float = _limit(5.0, "connections/s", "accepted from one address", minimum=0.001)
    rate_strikes: int = _limit(100, "calls", "refused in a row for their rate before the connection is closed")
    audit_burst: int = _limit(100, "lines", "of the audit log about one event and address at once; more are counted")
    audit_rate: float = _limit(1.0, "lines/s", "of the audit log about one event and address", minimum=0.001)
    subscriptions: int = _limit(128, "subscriptions", "of one connection")
    filter_values: int = _limit(100, "values", "in the filter of one subscription")
    topics: int = _limit(1000, "topics", "that the host may make")
    user_topics: int = _limit(10_000, "topics", "of single users; the one longest unused gives way")
    event_size: int = _limit(1 * MIB, "bytes", "one event as JSON", minimum=64)
    history_entries: int = _limit(1024, "events", "kept of a topic")
    history_age: float = _limit(300.0, "s", "for which an event is kept", minimum=0.01)
    history_size: int = _limit(16 * MIB, "bytes", "of events kept of a topic", minimum=1024)
    event_backlog: int = _limit(10_000, "events", "that wait for a durable store")
    event_backlog_size: int = _limit(64 * MIB, "bytes", "of events that wait for a durable store", minimum=1024)
    store_patience: float = _limit(2.0, "s", "without Redis before subscribers are told", minimum=0.01)
    leader_patience: float = _limit(
        3.0, "s", "of silence after which another server on the same Redis leads", minimum=0.1
    )
    pumps: int = _limit(1, "threads", "that deliver events, beside the workers", maximum=64)
    http: int = _limit(1, "0 or 1", "answer ordinary HTTP requests on the port", minimum=0, maximum=1)
    page: int = _limit(1, "0 or 1", "serve a page for browsers at GET /", minimum=0, maximum=1)
    deflate: int = _limit(0, "0 or 1", "offer permessage-deflate", minimum=0, maximum=1)
    deflate_window: int = _limit(12, "bits", "of the window that messages are deflated with", minimum=9, maximum=15)
    deflate_level: int = _limit(1, "level", "of deflating, 1 (quick) to 9 (small)", maximum=9)
    deflate_memory: int = _limit(5, "level", "of memory for deflating, 1 to 9", maximum=9)
    deflate_minimum: int = _limit(1024, "bytes", "below which a message is not deflated", minimum=0)
    callback_backlog: int = _limit(4096, "callbacks", "connect and disconnect callbacks that wait for the host")

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.type == "int", item.metadata)


def _check(name: str, value: Any, whole: bool, metadata: Mapping[str, Any]) -> None:
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    low, high = metadata["minimum"], metadata["maximum"]
    if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high and value != math.inf:
        return
    kind = "a whole number" if whole else "a number"
    top = "" if high == math.inf else f" and at most {number_text(high)}"
    raise ConfigError(
        f"{name} ({setting_name(name)}) is {value!r}; it takes {kind} of {metadata['unit']}, at least {low}{top}"
    )


def setting_name(name: str) -> str:
    """The configuration key of a field of `Limits`: `message_size` is `rpcwebsocketmessagesize`."""
    return "rpcwebsocket" + name.replace("_", "")


def limit_reached(limits: Limits, name: str) -> str:
    """The sentence that tells a client which limit it met, its value and its setting.

    Short enough for a close reason (RFC 6455 section 5.5: 123 bytes).
    """
    unit = Limits.__dataclass_fields__[name].metadata["unit"]
    value = getattr(limits, name)
    return f"{name.replace('_', ' ')} limit of {number_text(value)} {unit} ({setting_name(name)})"


def number_text(value: float) -> str:
    """A number as a file would have it: every digit that counts, and no exponent where it can do without."""
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _setting(default: Any, key: str, kind: str, text: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"key": key, "kind": kind, "help": text, "secret": secret})


@dataclass(frozen=True)
class Config:
    """How one server is to run. `Config.load` makes one from file, environment and command line.

    Attributes:
        host: the address to listen on; one that is not loopback needs TLS and authentication.
        port: the TCP port; 0 picks a free one.
        user, password: the one user of `rpcuser` and `rpcpassword`, with the role admin; both or neither.
        users_file: a `rpc_permissions.json`; empty for none.
        cookie_file: where to write a fresh password at start, for programs on this machine; empty for no cookie.
        certificate, private_key: PEM files; with both, the server speaks TLS only (wss).
        client_ca: PEM file or directory: clients may show certificates, which must be of these authorities.
        allow_ips: addresses and networks that may connect; empty for all.
        allow_hosts: names, beside its own, by which clients may call the server (the Host header).
        allow_origins: origins, beside its own, of pages that may use it, such as `https://wallet.example`; `*` for all.
        insecure: allows a listening address that is not loopback without TLS or without authentication.
        audit_log: a file for one line of JSON per login, refusal and change; empty for the logger alone.
        method_rates: calls of one user or address by method, as `name=CAPACITY/REFILL`; replaces the node's table.
        limit_loopback: whether rate limits hold for loopback addresses too; the node exempts them.
        event_store: where the history of topics is kept: `memory`, `sqlite:PATH`, or the URL of a Redis.
        trusted_proxies: addresses and networks of proxies: for their connections, the clients are those that they name
            in X-Forwarded-For, or in the PROXY protocol; nobody else's word is taken.
        proxy_protocol: whether connections of trusted proxies begin with a header of the PROXY protocol (version 1 or 2).
        backlog: connections that the system may hold before they are accepted.
        limits: every other bound.
    """

    host: str = _setting("127.0.0.1", "rpcbind", "text", "address to listen on")
    port: int = _setting(0, "rpcwebsocketport", "int", "port to listen on")
    user: str = _setting("", "rpcuser", "text", "name of the one user, who may do everything")
    password: str = _setting("", "rpcpassword", "text", "the user's password", secret=True)
    users_file: str = _setting("", "rpcwebsocketusersfile", "path", "users and roles (rpc_permissions.json)")
    cookie_file: str = _setting("", "rpcwebsocketcookiefile", "path", "file for a fresh password at each start")
    certificate: str = _setting("", "rpcsslcertificatechainfile", "path", "certificate chain (PEM); with a key: wss")
    private_key: str = _setting("", "rpcsslprivatekeyfile", "path", "private key of the certificate (PEM)")
    client_ca: str = _setting("", "rpcsslcapath", "path", "authorities for client certificates (PEM, or a directory)")
    allow_ips: tuple[str, ...] = _setting((), "rpcallowip", "list", "addresses and networks that may connect")
    allow_hosts: tuple[str, ...] = _setting((), "rpcwebsocketallowhost", "list", "further names of the server")
    allow_origins: tuple[str, ...] = _setting((), "rpcwebsocketalloworigin", "list", "further origins of pages, or *")
    insecure: bool = _setting(False, "rpcwebsocketinsecure", "bool", "allow a public address without TLS or users")
    audit_log: str = _setting("", "rpcwebsocketauditlog", "path", "file for logins, refusals and changes")
    method_rates: tuple[str, ...] = _setting((), "rpcwebsocketmethodrates", "list", "NAME=CAPACITY/REFILL by method")
    limit_loopback: bool = _setting(False, "rpcwebsocketlimitloopback", "bool", "rate limits for loopback too")
    event_store: str = _setting(
        "memory", "rpcwebsocketeventstore", "text", "where events are kept: memory, sqlite:PATH or redis://HOST:PORT/DB"
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "rpcwebsockettrustedproxies",
        "list",
        "proxies (addresses, networks) that tell whose requests they pass on",
    )
    proxy_protocol: bool = _setting(
        False, "rpcwebsocketproxyprotocol", "bool", "trusted proxies begin connections with a PROXY header"
    )
    backlog: int = _setting(512, "rpcwebsocketbacklog", "int", "connections waiting to be accepted")
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not isinstance(self.port, int) or isinstance(self.port, bool) or not 0 <= self.port <= 65535:
            raise ConfigError(f"port (rpcwebsocketport) is {self.port!r}; it takes a whole number from 0 to 65535")
        if not self.host or not isinstance(self.host, str):
            raise ConfigError(f"host (rpcbind) is {self.host!r}; it takes an address to listen on, such as 127.0.0.1")
        if not isinstance(self.backlog, int) or isinstance(self.backlog, bool) or not 1 <= self.backlog <= 65535:
            raise ConfigError(
                f"backlog (rpcwebsocketbacklog) is {self.backlog!r}; it takes a whole number from 1 to 65535"
            )
        kind, _, rest = self.event_store.partition(":")
        if self.event_store != "memory" and not (kind in ("sqlite", "redis", "rediss") and rest):
            raise ConfigError(
                f"event_store (rpcwebsocketeventstore) is {self.event_store[:64]!r}; "
                "it takes memory, sqlite:PATH or redis://HOST:PORT/DB"
            )
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and "\0" in value:
                raise ConfigError(f"{item.name} ({item.metadata['key']}) has a NUL character in it")
        if bool(self.user) != bool(self.password):
            raise ConfigError("rpcuser and rpcpassword belong together: set both, or neither")
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigError(
                "rpcsslcertificatechainfile and rpcsslprivatekeyfile belong together: set both for TLS, or neither"
            )
        if self.client_ca and not self.certificate:
            raise ConfigError("rpcsslcapath needs rpcsslcertificatechainfile and rpcsslprivatekeyfile")
        for text in self.allow_ips:
            parse_network(text, "allow_ips (rpcallowip)")
        for text in self.trusted_proxies:
            parse_network(text, "trusted_proxies (rpcwebsockettrustedproxies)")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError("rpcwebsocketproxyprotocol needs rpcwebsockettrustedproxies: whose headers are believed")
        for text in self.method_rates:
            parse_rate(text)

    @property
    def has_tls(self) -> bool:
        """Whether the server speaks TLS."""
        return bool(self.certificate)

    @property
    def has_users(self) -> bool:
        """Whether clients must authenticate."""
        return bool(self.user or self.users_file or self.cookie_file)

    def check_exposure(self) -> None:
        """Raises ConfigError where the server would be open to a network without TLS and authentication."""
        if self.insecure or self.host == "localhost" or is_loopback(self.host):
            return
        missing = []
        if not self.has_tls:
            missing.append("TLS (rpcsslcertificatechainfile and rpcsslprivatekeyfile)")
        if not self.has_users:
            missing.append("users (rpcuser and rpcpassword, or rpcwebsocketusersfile)")
        if missing:
            raise ConfigError(
                f"{self.host} (rpcbind) is not a loopback address, and there is no {' and no '.join(missing)}. "
                "Configure that, or set rpcwebsocketinsecure=1 if the network is trusted."
            )

    @classmethod
    def load(
        cls,
        path: str | None = None,
        environment: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Config:
        """Makes a configuration in the node's order of precedence: options, environment, file, defaults.

        Args:
            path: a `dilithion.conf`; a missing file means defaults, as for the node. None for no file.
            environment: variables, of which `DILITHION_<KEY>` count; default: the process's own.
            options: values by key, as from a command line.

        Raises:
            ConfigError: with file, line and key, and what is accepted.
        """
        from .sources import load

        return load(path, environment, options).config


def parse_network(text: str, what: str) -> IPNetwork:
    """An address or network; raises ConfigError where the text is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(f"{what} has {text!r}; it takes addresses and networks, such as 10.0.0.0/8") from None


def parse_rate(text: str) -> tuple[str, float, float]:
    """Method, capacity and refill a second, from `name=CAPACITY/REFILL`; raises ConfigError where it is none."""
    name, _, rate = text.partition("=")
    capacity, _, refill = rate.partition("/")
    try:
        numbers = float(capacity), float(refill)
    except ValueError:
        numbers = (0.0, 0.0)
    if not name.strip() or not all(0 < number < math.inf for number in numbers) or numbers[0] < 1:
        raise ConfigError(
            f"method_rates (rpcwebsocketmethodrates) has {text[:64]!r}; it takes NAME=CAPACITY/REFILL, "
            "such as sendtoaddress=10/0.167: calls at once, at least 1, and calls a second"
        )
    return name.strip(), *numbers
