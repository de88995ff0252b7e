"""Commands and their options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from .._version import __version__
from .call_command import add_call, add_watch
from .check_command import add_check
from .config_command import add_config
from .gateway_command import add_gateway
from .log_format import configure_logging
from .serve_command import add_serve
from .store_command import add_store
from .token_command import add_token
from .types_command import add_types
from .user_command import add_user

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated options: a later version may have two that begin with one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return the exit status: 0 for success, 1 for a failure, 2 for wrong usage."""
    parser: argparse.ArgumentParser = _Parser(
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
    add_call(commands)
    add_watch(commands)
    add_types(commands)
    options = parser.parse_args(arguments)
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
