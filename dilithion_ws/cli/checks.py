"""What `dilithion-ws check` looks at. Each function returns what it has found, and changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import stat
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from enum import Enum
from typing import Any, NamedTuple

from ..auth.users import UsersFile, parse_users
from ..config.config import Config, parse_network
from ..config.exposure import Reach, exposure_of
from ..errors import ConfigError, StartError
from ..net.listeners import listen
from ..net.tls import TlsContext
from ..stores.probe import find_store_problem
from ..util.files import permissions_of, read_bounded_text
from ..util.open_files import RESERVED_FILES, file_limit
from ..util.secrets import mask_url

__all__ = [
    "Finding",
    "Level",
    "check_exposure_and_users",
    "check_files",
    "check_machine",
    "check_store",
    "check_tls",
]

_MAX_USERS_CHARACTERS = 8 << 20
_TIMEOUT = 2.0
_SOON = 14 * 86_400
"""Seconds before a certificate expires at which that becomes a warning."""
_BROAD_PREFIX = 8


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """The server works, and something about it should be changed."""
    ERROR = "error"
    """The server would not start, or not do what it is configured to do."""


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    about: str
    text: str


def check_exposure_and_users(config: Config, lends_account: bool) -> Iterator[Finding]:
    """Report who can reach the server, and as whom."""
    exposure = exposure_of(config, lends_account)
    because = f": {exposure.reason}" if exposure.reason else ""
    yield Finding(Level.OK, "reach", f"{exposure.reach.value} can reach {config.host} port {config.port}{because}")
    level = Level.WARNING if config.insecure else Level.ERROR
    for risk in exposure.risks:
        allowed = " (allowed by rpcwebsocketinsecure=1)" if config.insecure else ""
        yield Finding(level, "reach", f"{risk.text}. {risk.remedy}.{allowed}")
    if config.allow_ips:
        yield Finding(Level.OK, "reach", f"only from loopback and {', '.join(config.allow_ips)} (rpcallowip)")
    yield from _check_proxies(config)
    yield from _check_users(config, exposure.reach)


def _check_proxies(config: Config) -> Iterator[Finding]:
    for text in config.trusted_proxies:
        network = parse_network(text, "")
        is_broad = network.prefixlen < _BROAD_PREFIX
        level = Level.WARNING if is_broad else Level.OK
        more = ", which is a large part of the internet: any host in it can claim to be any client" if is_broad else ""
        yield Finding(level, "proxies", f"{text} may name clients (rpcwebsockettrustedproxies){more}")


def _check_users(config: Config, reach: Reach) -> Iterator[Finding]:
    if not config.has_users:
        yield Finding(Level.OK, "users", f"there are none: {reach.value} have all rights")
        return
    if config.user:
        yield Finding(Level.OK, "users", f"{config.user} (rpcuser) with the role admin")
    if config.cookie_file:
        yield Finding(Level.OK, "users", f"who can read {config.cookie_file}, with the role admin")
    if not config.users_file:
        return
    try:
        file = parse_users(read_bounded_text(config.users_file, _MAX_USERS_CHARACTERS), config.users_file)
    except OSError as error:
        yield Finding(Level.ERROR, "users", f"{config.users_file} can't be read: {error.strerror}")
    except ConfigError as error:
        yield Finding(Level.ERROR, "users", str(error))
    else:
        yield from _check_users_file(config.users_file, file)


def _check_users_file(path: str, file: UsersFile) -> Iterator[Finding]:
    roles = Counter(user.role for user in file.users.values())
    users = ", ".join(f"{count} with the role {role}" for role, count in sorted(roles.items())) or "no users"
    yield Finding(Level.OK, "users", f"{path}: {users}; {len(file.tokens)} API tokens")
    weak = sorted(user.name for user in file.users.values() if user.password.scheme == "node")
    if weak:
        text = f"the passwords of {', '.join(weak[:5])} have a fast hash; replace them by `dilithion-ws user passwd`"
        yield Finding(Level.WARNING, "users", text)
    for token in file.tokens.values():
        if token.limits.expires is not None and token.limits.expires <= time.time():
            yield Finding(Level.WARNING, "users", f"the token {token.name} has expired; revoke it")


def check_files(config: Config, conf: str | None) -> Iterator[Finding]:
    """Report files that other users of the machine can read, and those that cannot be written."""
    secrets = [path for path in (conf, config.users_file) if path and os.path.exists(path)]
    for path in secrets:
        mode = permissions_of(path)
        if mode & 0o007 and (path != conf or config.password):
            text = f"{path} has mode {mode:04o}: every user of this machine can use it; chmod 600 it"
            yield Finding(Level.WARNING, "files", text)
    for key, path in (("rpcwebsocketcookiefile", config.cookie_file), ("rpcwebsocketauditlog", config.audit_log)):
        folder = os.path.dirname(path) or "."
        if path and not os.access(folder, os.W_OK | os.X_OK):
            yield Finding(Level.ERROR, "files", f"{key}: the directory {folder} does not exist or can't be written")
    if config.audit_log and os.path.lexists(config.audit_log):
        mode = os.lstat(config.audit_log).st_mode
        if not stat.S_ISREG(mode) or not os.access(config.audit_log, os.W_OK):
            text = f"rpcwebsocketauditlog: {config.audit_log} is not a regular file that can be written"
            yield Finding(Level.ERROR, "files", text)


def check_tls(config: Config) -> Iterator[Finding]:
    """Report whether the certificate can be used, for which names, and until when."""
    if not config.has_tls:
        yield Finding(Level.OK, "tls", "none: connections are not encrypted")
        return
    try:
        context = TlsContext(config.certificate, config.private_key, config.client_ca).context
        found = _read_certificate(context, config.certificate)
    except ConfigError as error:
        yield Finding(Level.ERROR, "tls", str(error))
        return
    except (OSError, ValueError) as error:
        yield Finding(Level.ERROR, "tls", f"{config.certificate}: {getattr(error, 'verify_message', '') or error}")
        return
    until = ssl.cert_time_to_seconds(found["notAfter"])
    names = ", ".join(str(name) for _, name in found.get("subjectAltName", ())) or "no names"
    day = datetime.fromtimestamp(until, timezone.utc).date().isoformat()
    level = Level.WARNING if until < time.time() + _SOON else Level.OK
    yield Finding(level, "tls", f"the certificate is for {names}, until {day}")


def _read_certificate(server: ssl.SSLContext, path: str) -> dict[str, Any]:
    """Return what is in a certificate, by a handshake in memory with a client that trusts it.

    Raises:
        ssl.SSLError: it is not valid now.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= (
        ssl.VERIFY_X509_PARTIAL_CHAIN
    )  # trust the certificate itself, whatever authority has signed it
    client.load_verify_locations(path)
    server.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return dict(ends[0].getpeercert() or {})


def check_machine(config: Config) -> Iterator[Finding]:
    """Report whether the port is free, and whether the process may have as many connections as configured."""
    try:
        listen(config).close()
        yield Finding(Level.OK, "port", f"{config.port} is free on {config.host}")
    except StartError as error:
        version = _running_version(config)
        if version:
            yield Finding(Level.OK, "port", f"a server of this kind, version {version}, is running on {config.port}")
        else:
            yield Finding(Level.ERROR, "port", str(error))
    limit = file_limit()
    wanted = config.limits.connections.connections
    if limit is not None and limit < wanted + 2 * RESERVED_FILES:  # its own, and those of the host
        text = f"this shell may open {limit} files, which is too few for {wanted} connections (ulimit -n, LimitNOFILE)"
        yield Finding(Level.WARNING, "files", text)


def _running_version(config: Config) -> str:
    """Return the version of the server that answers on the port, or nothing."""
    address = config.addresses[0]
    connection = http.client.HTTPConnection(address, config.port, timeout=_TIMEOUT)
    if config.has_tls:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(address, config.port, timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(4096))
        return str(answer.get("version", "")) if isinstance(answer, dict) and answer.get("live") else ""
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def check_store(config: Config) -> Iterator[Finding]:
    """Report whether the event store can be used."""
    if config.event_store == "memory":
        yield Finding(Level.OK, "events", "kept in memory: a restart ends all subscriptions with a gap")
        return
    problem, shown = find_store_problem(config.event_store), mask_url(config.event_store)
    if problem:
        yield Finding(Level.ERROR, "events", f"{shown}: {problem}")
    else:
        yield Finding(Level.OK, "events", f"{shown} can be used")
