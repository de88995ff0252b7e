"""`dilithion-ws gateway`: a server in front of a node that has only HTTP."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ..config.sources import load
from ..errors import ConfigError, StartError
from .config_options import add_setting, add_settings, conf_file, load_settings, options_of

if TYPE_CHECKING:
    from ..gateway import GatewayConfig

__all__ = ["add_gateway"]


def add_gateway(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "gateway",
        help="run a server in front of a node that has only HTTP",
        description="Forwards calls to a node that has JSON-RPC over HTTP (Dilithion, or the Bitcoin Core family), polls "
        "it, and publishes what changes. Prints its URL once clients can connect. Listens on the node's port plus one "
        "unless --port is given. Runs until SIGINT or SIGTERM; SIGHUP reloads users and certificate.",
    )
    parser.add_argument("--verbose", action="store_true", help="log more, to standard error")
    from ..gateway.gateway_config import GATEWAY_SETTINGS

    group = parser.add_argument_group("node", "Each option overrides the configuration key in brackets.")
    for setting in GATEWAY_SETTINGS.values():
        add_setting(group, setting)
    add_settings(parser)
    parser.set_defaults(run=gateway)


def gateway(options: argparse.Namespace) -> int:
    """Run the gateway until it is asked to stop."""
    try:
        from ..gateway import Gateway
    except ImportError as error:
        print(f"dilithion-ws: the gateway needs the extra gateway ({error.name} is missing)", file=sys.stderr)
        return 1
    try:
        config = _load(options)
        port = str(config.port + 1)
        running = Gateway(config, load_settings(options, {"rpcwebsocketport": port}).config)
        running.start()
    except (ConfigError, StartError) as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1
    server = running.server
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    print(f"Listening on {server.url}, in front of {config.upstream}", flush=True)
    stopping.wait()
    running.stop()
    return 0


def _load(options: argparse.Namespace) -> GatewayConfig:
    from ..gateway.gateway_config import GATEWAY_SETTINGS, GATEWAY_TABLE, GatewayConfig

    given = options_of(options, GATEWAY_SETTINGS)
    return load(GatewayConfig, GATEWAY_TABLE, conf_file(options), None, given).config
