"""Commands and their options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from .call_command import add_call
from .check_command import add_check
from .command_parser import CommandParser
from .completion_command import add_completion
from .config_command import add_config
from .gateway_command import add_gateway
from .inspect_commands import add_methods, add_status, add_topics
from .log_format import configure_logging
from .serve_command import add_serve
from .store_command import add_store
from .token_command import add_token
from .types_command import add_types
from .user_command import add_user
from .watch_command import add_watch

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return the exit status: 0 for success, 1 for a failure, 2 for wrong usage."""
    parser: argparse.ArgumentParser = CommandParser(
        prog="dilithion-ws", description="A WebSocket server for Dilithion nodes: JSON-RPC 2.0 over RFC 6455."
    )
    parser.add_argument("--version", action="version", version=f"dilithion-ws {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_serve(commands)
    add_gateway(commands)
    add_config(commands)
    add_check(commands)
    add_store(commands)
    add_user(commands)
    add_token(commands)
    add_status(commands)
    add_topics(commands)
    add_methods(commands)
    add_call(commands)
    add_watch(commands)
    add_types(commands)
    add_completion(commands, parser)
    options, more = parser.parse_known_args(arguments)
    params: list[str] | None = getattr(options, "params", None)
    if params is not None and not any(text.startswith("--") for text in more):
        params += more  # those after an option, which argparse does not add
    elif more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    configure_logging(options)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status
