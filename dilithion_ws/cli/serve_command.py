"""`dilithion-ws serve`: a server with the development node, or one that echoes."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..config.config import Config
from ..devnode import DevNode
from ..devnode.methods import register_methods
from ..devnode.rest import register_rest
from ..errors import ConfigError, StartError
from ..rpc.table import RpcTable
from ..server import WebSocketServer
from ..session import Session
from ..util.systemd import sd_listen_sockets
from .config_options import add_settings, load_settings
from .log_format import add_log_format
from .signals import handle_signals
from .systemd_service import SystemdService

__all__ = ["add_serve"]

DEFAULT_PORT = "8333"


def add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="run a server",
        description="Runs a server until SIGINT or SIGTERM; SIGHUP reloads users and certificate. "
        f"Prints its URL once clients can connect. Listens on port {DEFAULT_PORT} unless --port is given.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dev", action="store_true", help="with a development node: a small chain in memory")
    what.add_argument("--echo", action="store_true", help="send every message back, for conformance tests")
    parser.add_argument("--seed", type=int, help="makes the development node repeat its history")
    parser.add_argument(
        "--block-interval", type=float, default=2.0, metavar="S", help="seconds between blocks (default: %(default)s)"
    )
    add_log_format(parser)
    add_settings(parser, {"rpcwebsocketport": DEFAULT_PORT})
    parser.set_defaults(run=serve)


def serve(options: argparse.Namespace) -> int:
    """Run the server until a signal stops it."""
    try:
        config = load_settings(options, {"rpcwebsocketport": DEFAULT_PORT}).config
        server, node = _echo_server(config) if options.echo else _development_server(config, options)
        server.start()
    except (ConfigError, StartError) as error:
        print(f"dilithion-ws: {error}", file=sys.stderr)
        return 1
    service = SystemdService(server)

    def stop() -> None:
        service.stopping()
        server.stop(0)

    handle_signals(stop, lambda: server.reload(0))
    if node is not None:
        node.start()
    with service:
        print(f"Listening on {server.url}", flush=True)
        server.wait()
    if node is not None:
        node.stop()
    return 0


def _echo_server(config: Config) -> tuple[WebSocketServer, None]:
    def echo(session: Session, message: Any) -> Any:
        return message

    return WebSocketServer(None, config, on_message=echo, sockets=sd_listen_sockets()), None


def _development_server(config: Config, options: argparse.Namespace) -> tuple[WebSocketServer, DevNode]:
    if not options.block_interval > 0:
        raise ConfigError(f"--block-interval is {options.block_interval:g}; it takes seconds, more than 0")
    rpc = RpcTable(ignores_surplus_params=True)  # as the node does
    server = WebSocketServer(rpc, config, sockets=sd_listen_sockets())
    node = DevNode(options.seed, options.block_interval, publish=server.publish)
    server.history("blocks", node.read_blocks, node.find_block)
    server.transactions(node.read_transactions, node.read_mempool)
    register_methods(rpc, node, lambda: server.stop(0))
    register_rest(server, node)
    return server, node
