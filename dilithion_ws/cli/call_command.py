"""`dilithion-ws call`: a call at the command line."""

from __future__ import annotations

import argparse
import json
from decimal import Decimal
from typing import Any

import msgspec

from ..client import ClientError
from ..errors import ConfigError, RpcError
from ..util.json import encode_json
from .client_options import add_connection, connect, report_failure
from .event_lines import clean

__all__ = ["add_call"]


def add_call(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "call",
        help="call a method",
        description="Calls a method of a running server and prints its result. A param that is JSON is sent as such, any "
        "other as a string; params of the form NAME=VALUE are sent by name.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--strings", action="store_true", help="send each PARAM as a string, whatever it looks like")
    what.add_argument("--params", metavar="JSON", dest="whole", help="all params as one JSON array or object, exactly")
    parser.add_argument("method", help="the method's name")
    parser.add_argument("params", nargs="*", metavar="PARAM", help="its params")
    add_connection(parser)
    parser.set_defaults(run=call)


def call(options: argparse.Namespace) -> int:
    """Make the call. Return the exit status, 1 if it fails."""
    try:
        params = _params(options)
        with connect(options, wait_for_server=False) as client:
            result = client.request(options.method, params)
    except (RpcError, ClientError, ConfigError) as error:
        return report_failure(error)
    text = encode_json(result)
    if options.json:
        print(text.decode())
    elif isinstance(result, str):
        print(clean(result))
    else:
        print(msgspec.json.format(text).decode())
    return 0


def _params(options: argparse.Namespace) -> Any:
    if options.whole is not None:
        params = _value(options.whole)
        if options.params or not isinstance(params, (list, dict)):
            raise ConfigError(
                "--params takes one JSON array or object, such as '[\"5\", true]', and no PARAM beside it"
            )
        return params
    if options.strings:
        return options.params
    named = [text.partition("=") for text in options.params]
    if named and all(equals and name.isidentifier() for name, equals, _ in named):
        return {name: _value(text) for name, _, text in named}
    return [_value(text) for text in options.params]


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except RecursionError:
        raise ConfigError("a param is nested too deeply") from None
    except ValueError:
        return text


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
