"""Options of the commands that connect to a server, and the client that they make."""

from __future__ import annotations

import argparse
import getpass
import os
import re
import ssl
import sys

from ..client import Client
from ..config.config import Config
from ..config.sources import load
from ..errors import ConfigError
from ..util.files import read_bounded_text
from .config_options import CONF, COOKIE, GATEWAY_COOKIE, conf_file
from .event_lines import clean

__all__ = ["add_connection", "check_timeout", "connect", "report_failure", "server_url"]

_PASSWORD = "DILITHION_RPCPASSWORD"
_MOST_CHARACTERS = 4096
_MAX_TIMEOUT = 1e8
_CONNECT_SECONDS = 10.0
_MOST_CERTIFICATE = 1 << 20
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group(
        "connection", "Without --url and --user, address and credentials are those of the server's own configuration."
    )
    group.add_argument("--url", help="ws:// or wss:// address (default: ws://127.0.0.1:8333)")
    group.add_argument("--user", help="name; the password is prompted for, or read from " + _PASSWORD)
    group.add_argument(
        "--ca",
        metavar="FILE",
        help="authorities to trust for wss:// (PEM; default: the system's, and the certificate of --conf for its server)",
    )
    group.add_argument("--conf", metavar="FILE", help="the server's configuration file")
    group.add_argument("--datadir", metavar="DIR", help=f"where {CONF} and {COOKIE} are")
    group.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds to wait (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one value a line")
    parser.add_argument("--verbose", action="store_true", help="log more, to standard error")


def connect(options: argparse.Namespace, *, wait_for_server: bool = True) -> Client:
    """Return a client for the options, the environment and the configuration file.

    Args:
        options: of the command line.
        wait_for_server: whether it goes on trying if there is no server.

    Raises:
        ConfigError: they do not fit together.
    """
    check_timeout(options)
    folder = options.datadir or (os.path.dirname(options.conf) if options.conf else None)
    config = _load_config(options)
    user: str | None = options.user
    if user is not None:
        password = os.environ.get(_PASSWORD)
        if password is None:
            password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    else:
        user, password = config.user or None, config.password or None
    own = os.path.join(folder or ".", GATEWAY_COOKIE)
    cookie = config.cookie_file or (own if os.path.exists(own) else os.path.join(folder or ".", COOKIE))
    if user is None and folder is not None and os.path.exists(cookie):
        user, _, password = read_bounded_text(cookie, _MOST_CHARACTERS).strip().partition(":")
    try:
        return Client(
            options.url or config.url(_port(options, config)),
            user=user,
            password=password,
            ssl_context=_tls_context(options, config),
            timeout=options.timeout,
            connect_timeout=min(options.timeout, _CONNECT_SECONDS),
            wait_for_server=wait_for_server,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def report_failure(error: Exception) -> int:
    """Print why a command has failed, in one line. Return its exit status, 1."""
    text = clean(str(error))
    hint = "; is the server running?" if "Connection refused" in text else ""
    print(f"dilithion-ws: {text}{hint}", file=sys.stderr, flush=True)
    return 1


def check_timeout(options: argparse.Namespace) -> None:
    """Raise ConfigError if --timeout cannot be used."""
    if not 0 < options.timeout < _MAX_TIMEOUT:
        raise ConfigError(f"--timeout is {options.timeout:g}; it takes seconds, more than 0")


def server_url(options: argparse.Namespace) -> tuple[str, ssl.SSLContext | None]:
    """Return the address of the server that the options name, and the context for TLS, or None for the usual one.

    Raises:
        ConfigError: they cannot be used.
    """
    config = _load_config(options)
    return options.url or config.url(_port(options, config)), _tls_context(options, config)


def _port(options: argparse.Namespace, config: Config) -> int:
    """Return where a server listens that has this configuration: a gateway, if it says so."""
    from ..gateway.gateway_config import GATEWAY_TABLE, GatewayConfig  # no other client needs it

    gateway = load(GatewayConfig, GATEWAY_TABLE, conf_file(options)).config
    return gateway.listen_port or config.port or gateway.port + 1


def _load_config(options: argparse.Namespace) -> Config:
    """Return the configuration of the server. With --user, the variables for a user are that user's, not the server's."""
    environment = dict(os.environ)
    if options.user is not None:
        environment.pop(_PASSWORD, None)
        environment.pop("DILITHION_RPCUSER", None)
    return Config.load(conf_file(options), environment)


def _tls_context(options: argparse.Namespace, config: Config) -> ssl.SSLContext | None:
    """Return a TLS context for the options, or None for the usual one.

    A server that is found by its own configuration is known by the certificate that this names, and by no other of the
    same authority.

    Raises:
        ConfigError: a file cannot be used.
    """
    if options.ca:
        try:
            return ssl.create_default_context(cafile=options.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--ca: {options.ca} can't be used: {error}") from None
    if options.url or not config.certificate:
        return None
    try:
        own = _CERTIFICATE.search(read_bounded_text(config.certificate, _MOST_CERTIFICATE))  # the others have issued it
        context = ssl.create_default_context(cadata=own[0] if own else "none")
    except (OSError, ssl.SSLError, ConfigError) as error:
        raise ConfigError(f"rpcsslcertificatechainfile: {config.certificate} can't be used: {error}") from None
    context.check_hostname = False  # its names are those of the outside, and this is the address inside
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
