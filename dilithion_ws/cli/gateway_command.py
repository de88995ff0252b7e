"""`dilithion-ws gateway`: a server in front of a node that has only HTTP."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from typing import TYPE_CHECKING

from ..config.sources import load
from ..errors import ConfigError, StartError
from ..util.systemd import sd_listen_sockets
from .config_options import GATEWAY_COOKIE, add_setting, add_settings, conf_file, load_settings, options_of
from .log_format import add_log_format
from .signals import handle_signals
from .systemd_service import SystemdService

if TYPE_CHECKING:
    from ..config.config import Config
    from ..config.sources import LoadedConfig
    from ..gateway import GatewayConfig

__all__ = ["add_gateway", "add_gateway_settings", "load_gateway", "load_gateway_server", "shared_port_note"]

_PORT = "rpcwebsocketport"


def add_gateway(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "gateway",
        help="run a server in front of a node that has only HTTP",
        description="Forwards calls to a node that has JSON-RPC over HTTP (Dilithion, or the Bitcoin Core family), polls "
        "it, and publishes what changes. Prints its URL once clients can connect. Listens on the node's port plus one "
        "unless --port is given. Runs until SIGINT or SIGTERM; SIGHUP reloads users and certificate.",
    )
    add_log_format(parser)
    add_gateway_settings(parser)
    add_settings(parser, {_PORT: "the node's port plus one"})
    parser.set_defaults(run=gateway)


def add_gateway_settings(parser: argparse.ArgumentParser) -> None:
    """Add an option for each key of the gateway."""
    from ..gateway.gateway_config import GATEWAY_SETTINGS

    group = parser.add_argument_group("node", "Each option overrides the configuration key in brackets.")
    for setting in GATEWAY_SETTINGS.values():
        add_setting(group, setting)


def gateway(options: argparse.Namespace) -> int:
    """Run the gateway until it is asked to stop."""
    try:
        from ..gateway import Gateway
    except ImportError as error:
        print(f"dilithion-ws: the gateway needs the package {error.name}: pip install {error.name}", file=sys.stderr)
        return 1
    try:
        config = load_gateway(options)
        loaded = load_gateway_server(options, config)
        settings, note = loaded.config, shared_port_note(loaded)
        if note:
            print(f"dilithion-ws: warning: {note}", file=sys.stderr)
        running = Gateway(config, settings, sockets=sd_listen_sockets())
        running.start()
    except (ConfigError, StartError) as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1
    server = running.server
    stopping = threading.Event()
    handle_signals(stopping.set, lambda: server.reload(0))
    print(f"Listening on {server.url}, in front of {config.upstream}", flush=True)
    if settings.cookie_file:
        print(f"Clients of this machine log in with the contents of {settings.cookie_file}", flush=True)
    with SystemdService(server):
        stopping.wait()
    running.stop()
    return 0


def load_gateway_server(options: argparse.Namespace, config: GatewayConfig) -> LoadedConfig[Config]:
    """Return the server's settings: on the node's port plus one, and with a cookie if there are no users to log in as.

    Raises:
        ConfigError: see `load_settings`.
    """
    defaults = {_PORT: str(config.port + 1)}
    if config.listen_port and getattr(options, _PORT) is None:
        setattr(options, _PORT, str(config.listen_port))
    asked, options.cookie = options.cookie, False  # that would be `.cookie`, which may be the node's
    loaded = load_settings(options, defaults)
    server = loaded.config
    if server.has_users or not (asked or (config.has_account and not server.insecure)):
        return loaded
    cookie = os.path.join(options.datadir or ".", GATEWAY_COOKIE)
    return load_settings(options, {**defaults, "rpcwebsocketcookiefile": cookie})


def shared_port_note(server: LoadedConfig[Config]) -> str:
    """Return a warning if the port was read from a file that the node may read as well, or nothing."""
    source = server.sources[_PORT]
    if not source.startswith("file"):
        return ""
    return (
        f"{source} sets {_PORT}, which a Dilithion node reads, too: it starts a WebSocket server of its own there; "
        "set the gateway's port by rpcgatewayport"
    )


def load_gateway(options: argparse.Namespace) -> GatewayConfig:
    """Return the gateway's own settings. Raise ConfigError if they cannot be used."""
    from ..gateway.gateway_config import GATEWAY_SETTINGS, GATEWAY_TABLE, GatewayConfig

    given = options_of(options, GATEWAY_SETTINGS)
    return load(GatewayConfig, GATEWAY_TABLE, conf_file(options), None, given).config
