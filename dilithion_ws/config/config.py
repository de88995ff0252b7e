"""The configuration of one server: everything but its limits, and the table of all keys."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from typing import Annotated

import msgspec

from ..errors import ConfigError
from ..util.secrets import mask_url
from .fields import PREFIX, Setting, SettingsGroup, option, settings_of
from .limits import Limits
from .sources import LoadedConfig, SettingsTable, load

__all__ = [
    "SETTINGS",
    "TABLE",
    "Config",
    "MethodRate",
    "load_config",
    "parse_method_rate",
    "parse_method_timeout",
    "parse_network",
]

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


_DURABLE_STORES = (
    "sqlite",
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
"""What `rpcwebsocketeventstore` begins with, up to the colon."""


class Config(SettingsGroup, frozen=True):
    """How one server is to run. `Config.load` reads one from a file, the environment and options.

    Attributes:
        host: the addresses to listen on, joined by commas; one that is not loopback needs TLS and users. Without IPv6
            there is no `::1`: it is left out then, unless it is the only address.
        port: the TCP port; 0 picks a free one.
        user, password: the one user of `rpcuser` and `rpcpassword`, with the role admin; both or neither.
        users_file: a `rpc_permissions.json`, or "".
        cookie_file: where to write a fresh password at start, for programs on this machine, or "".
        certificate, private_key: PEM files; with both, the server accepts TLS only (wss).
        client_ca: PEM file or directory of authorities; client certificates must be signed by one of them.
        require_client_certificate: whether a client without a certificate is refused.
        allow_ips: addresses and networks that may connect; empty for all.
        allow_hosts: names, in addition to its own, by which clients may call the server (the Host header).
        allow_origins: origins of pages that may use the server, such as `https://wallet.example`; `*` for all.
        insecure: allow clients of a network without TLS or without users, and a gateway to lend its account to anyone.
        audit_log: a file that gets one line of JSON per login, refusal and change, or "" for the logger alone.
        method_rates: rates by method as `NAME=CAPACITY/REFILL`; they override the node's table.
        limit_loopback: whether rate limits apply to loopback addresses; the node exempts them.
        event_store: where the history of topics is kept: `memory`, `sqlite:PATH`, or the URL of a Redis.
        store_required: whether a start fails if the store cannot be used. Otherwise the server serves, keeps events in
            memory, says so, and tries again.
        trusted_proxies: addresses and networks of proxies. The clients behind their connections are the ones that they
            name in X-Forwarded-For or in the PROXY protocol; other peers cannot name a client.
        proxy_protocol: whether connections of trusted proxies begin with a PROXY protocol header (version 1 or 2).
        backlog: connections that the system may hold before they are accepted.
        http: whether the port answers ordinary HTTP requests.
        page: whether `GET /` serves a page for browsers.
        deflate: whether permessage-deflate is offered.
        limits: all other bounds.
    """

    host: Annotated[str, option("rpcbind", "Addresses to listen on.")] = "127.0.0.1,::1"
    port: Annotated[int, option("rpcwebsocketport", "Port to listen on.")] = 0
    user: Annotated[str, option("rpcuser", "Name of the one user, who may do everything.")] = ""
    password: Annotated[str, option("rpcpassword", "Password of that user.", secret=True)] = ""
    users_file: Annotated[
        str, option("rpcwebsocketusersfile", "File of users and roles (rpc_permissions.json).", kind="path")
    ] = ""
    cookie_file: Annotated[
        str, option("rpcwebsocketcookiefile", "File for a fresh password at each start.", kind="path")
    ] = ""
    certificate: Annotated[
        str,
        option("rpcsslcertificatechainfile", "Certificate chain (PEM); with a key, the server is wss.", kind="path"),
    ] = ""
    private_key: Annotated[
        str, option("rpcsslprivatekeyfile", "Private key of the certificate (PEM).", kind="path")
    ] = ""
    client_ca: Annotated[
        str, option("rpcsslcapath", "Authorities of client certificates (PEM file or directory).", kind="path")
    ] = ""
    require_client_certificate: Annotated[
        bool, option("rpcwebsocketrequireclientcertificate", "Refuse TLS clients without a certificate.")
    ] = False
    allow_ips: Annotated[tuple[str, ...], option("rpcallowip", "Addresses and networks that may connect.")] = ()
    allow_hosts: Annotated[tuple[str, ...], option("rpcwebsocketallowhost", "Further host names of the server.")] = ()
    allow_origins: Annotated[
        tuple[str, ...], option("rpcwebsocketalloworigin", "Further origins of pages that may use the server, or *.")
    ] = ()
    insecure: Annotated[bool, option("rpcwebsocketinsecure", "Allow clients of a network without TLS or users.")] = (
        False
    )
    audit_log: Annotated[str, option("rpcwebsocketauditlog", "File for logins, refusals and changes.", kind="path")] = (
        ""
    )
    method_rates: Annotated[
        tuple[str, ...], option("rpcwebsocketmethodrates", "Rates by method, as NAME=CAPACITY/REFILL.")
    ] = ()
    method_timeouts: Annotated[
        tuple[str, ...],
        option("rpcwebsocketmethodtimeouts", "Seconds that calls of a method may take, as NAME=SECONDS."),
    ] = ()
    limit_loopback: Annotated[
        bool, option("rpcwebsocketlimitloopback", "Apply rate limits to loopback addresses too.")
    ] = False
    event_store: Annotated[
        str,
        option(
            "rpcwebsocketeventstore",
            "Where events are kept: memory, sqlite:PATH, redis://HOST:PORT/DB or another Redis.",
        ),
    ] = "memory"
    store_required: Annotated[
        bool, option("rpcwebsocketstorerequired", "Refuse to start if the event store can't be used.")
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        option("rpcwebsockettrustedproxies", "Addresses and networks of proxies that may name their clients."),
    ] = ()
    proxy_protocol: Annotated[
        bool, option("rpcwebsocketproxyprotocol", "Expect a PROXY protocol header from trusted proxies.")
    ] = False
    backlog: Annotated[int, option("rpcwebsocketbacklog", "Connections that wait to be accepted.")] = 512
    http: Annotated[bool, option("rpcwebsockethttp", "Answer ordinary HTTP requests on the port.")] = True
    page: Annotated[bool, option("rpcwebsocketpage", "Serve a page for browsers at GET /.")] = True
    deflate: Annotated[bool, option("rpcwebsocketdeflate", "Offer permessage-deflate.")] = False
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        _check_whole_number("port", "rpcwebsocketport", self.port, 0)
        _check_whole_number("backlog", "rpcwebsocketbacklog", self.backlog, 1)
        if not isinstance(self.host, str) or not all(self.addresses):
            raise ConfigError(
                f"host (rpcbind) is {self.host!r}; it takes addresses to listen on, such as 127.0.0.1,::1", "rpcbind"
            )
        kind, _, rest = self.event_store.partition(":")
        if self.event_store != "memory" and not (kind in _DURABLE_STORES and rest):
            raise ConfigError(
                f"event_store (rpcwebsocketeventstore) is {mask_url(self.event_store)[:64]!r}; "
                "it takes memory, sqlite:PATH, redis://HOST:PORT/DB, or another form of Redis in docs/events.md",
                "rpcwebsocketeventstore",
            )
        for setting in settings_of(Config):
            value = setting.get(self)
            if isinstance(value, str) and "\0" in value:
                raise ConfigError(f"{setting.name} ({setting.key}) has a NUL character in it", setting.key)
            if setting.kind == "bool" and value not in (True, False):
                raise ConfigError(f"{setting.name} ({setting.key}) is {value!r}; it takes True or False", setting.key)
        if bool(self.user) != bool(self.password):
            raise ConfigError("rpcuser and rpcpassword belong together: set both, or neither", "rpcuser", "rpcpassword")
        if bool(self.certificate) != bool(self.private_key):
            raise ConfigError(
                "rpcsslcertificatechainfile and rpcsslprivatekeyfile belong together: set both for TLS, or neither",
                "rpcsslcertificatechainfile",
                "rpcsslprivatekeyfile",
            )
        if self.client_ca and not self.certificate:
            raise ConfigError("rpcsslcapath needs rpcsslcertificatechainfile and rpcsslprivatekeyfile", "rpcsslcapath")
        if self.require_client_certificate and not self.client_ca:
            raise ConfigError(
                "rpcwebsocketrequireclientcertificate needs rpcsslcapath, which has the authorities of clients",
                "rpcwebsocketrequireclientcertificate",
            )
        for text in self.allow_ips:
            parse_network(text, "allow_ips (rpcallowip)", "rpcallowip")
        for text in self.trusted_proxies:
            parse_network(text, "trusted_proxies (rpcwebsockettrustedproxies)", "rpcwebsockettrustedproxies")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError(
                "rpcwebsocketproxyprotocol needs rpcwebsockettrustedproxies: the proxies whose headers are believed",
                "rpcwebsocketproxyprotocol",
            )
        for text in self.method_rates:
            parse_method_rate(text)
        for text in self.method_timeouts:
            parse_method_timeout(text)

    def __repr__(self) -> str:
        shown = (
            f"{setting.name}={_shown(setting.get(self))!r}"
            for setting in settings_of(Config)
            if len(setting.path) == 1 and not setting.secret and setting.get(self) != setting.default
        )
        return f"Config({', '.join(shown)})"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to listen on."""
        return tuple(address.strip() for address in self.host.split(","))

    def url(self, port: int) -> str:
        """Return the URL of a server at a port."""
        address = self.addresses[0]
        host = f"[{address}]" if ":" in address else address
        return f"{'wss' if self.has_tls else 'ws'}://{host}:{port}"

    @property
    def has_tls(self) -> bool:
        """Whether the server accepts TLS connections."""
        return bool(self.certificate)

    @property
    def has_users(self) -> bool:
        """Whether clients must authenticate."""
        return bool(self.user or self.users_file or self.cookie_file)

    @classmethod
    def load(
        cls,
        path: str | None = None,
        environment: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Config:
        """Read a configuration in the node's order of precedence: options, environment, file, defaults.

        Args:
            path: a `dilithion.conf`; a missing file means defaults, as for the node. None for no file.
            environment: the variables, of which `DILITHION_<KEY>` count; default: those of the process.
            options: values by key, as from a command line.

        Raises:
            ConfigError: with file, line and key, and what is accepted.
        """
        return load_config(path, environment, options).config


def _shown(value: object) -> object:
    return mask_url(value) if isinstance(value, str) else value


SETTINGS: Mapping[str, Setting] = {setting.key: setting for setting in settings_of(Config)}
"""Every key of the server."""

TABLE = SettingsTable(SETTINGS, PREFIX)


def load_config(
    path: str | None = None, environment: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
) -> LoadedConfig[Config]:
    """Read a configuration, and where each of its values comes from. See `Config.load`."""
    return load(Config, TABLE, path, environment, options)


class MethodRate(msgspec.Struct, frozen=True):
    """How often one method may be called: `capacity` calls at once, and `refill` calls per second."""

    method: str
    capacity: float
    refill: float


def parse_network(text: str, what: str, *keys: str) -> IPNetwork:
    """Return an address or a network. Raise ConfigError if the text is neither."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(f"{what} has {text!r}; it takes addresses and networks, such as 10.0.0.0/8", *keys) from None


def parse_method_rate(text: str) -> MethodRate:
    """Return the rate that `NAME=CAPACITY/REFILL` stands for. Raise ConfigError if the text is malformed."""
    name, _, rate = text.partition("=")
    capacity_text, _, refill_text = rate.partition("/")
    try:
        capacity, refill = float(capacity_text), float(refill_text)
    except ValueError:
        capacity, refill = 0.0, 0.0
    if not name.strip() or not (1 <= capacity < math.inf and 0 < refill < math.inf):
        raise ConfigError(
            f"method_rates (rpcwebsocketmethodrates) has {text[:64]!r}; it takes NAME=CAPACITY/REFILL, "
            "such as sendtoaddress=10/0.167: calls at once, at least 1, and calls per second",
            "rpcwebsocketmethodrates",
        )
    return MethodRate(name.strip(), capacity, refill)


def parse_method_timeout(text: str) -> tuple[str, float]:
    """Return the method and the seconds that `NAME=SECONDS` stands for. Raise ConfigError if the text is malformed."""
    name, _, number = text.partition("=")
    try:
        seconds = float(number)
    except ValueError:
        seconds = 0.0
    if not name.strip() or not 0.001 <= seconds < 1e6:
        raise ConfigError(
            f"method_timeouts (rpcwebsocketmethodtimeouts) has {text[:64]!r}; it takes NAME=SECONDS, "
            "such as rescanwallet=600",
            "rpcwebsocketmethodtimeouts",
        )
    return name.strip(), seconds


def _check_whole_number(name: str, key: str, value: object, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= 65535:
        raise ConfigError(f"{name} ({key}) is {value!r}; it takes a whole number from {minimum} to 65535", key)
