"""`dilithion-ws types`: types for TypeScript of the methods and topics of a server."""

from __future__ import annotations

import argparse

from ..client import ClientError
from ..errors import ConfigError, RpcError
from .client_options import add_connection, connect, report_failure
from .typescript import typescript_of

__all__ = ["add_types"]


def add_types(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "types",
        help="write types for TypeScript",
        description="Prints a module with the types of the methods and topics of a server, for the client in JavaScript.",
    )
    add_connection(parser)
    parser.set_defaults(run=types)


def types(options: argparse.Namespace) -> int:
    """Print the types. Return the exit status, 1 if the server does not tell them."""
    try:
        with connect(options, wait_for_server=False) as client:
            document = client.call("rpc.discover")
    except (RpcError, ClientError, ConfigError) as error:
        return report_failure(error)
    print(typescript_of(document), end="")
    return 0
