"""`dilithion-ws call` and `dilithion-ws watch`: a client at the command line."""

from __future__ import annotations

import argparse
import json
import sys
from decimal import Decimal
from typing import Any

import msgspec

from ..client import AfterBlock, ClientError, Event, EventsLostError, Position, Subscription, merged
from ..errors import ConfigError, RpcError
from ..util.json import encode_json
from .client_options import add_connection, connect

__all__ = ["add_call", "add_watch", "clean"]

_GREEN, _RED, _CYAN = 32, 31, 36
_COLOURS = {
    **dict.fromkeys(("connected", "added", "started", "block_found"), _GREEN),
    **dict.fromkeys(("disconnected", "removed", "stopped", "banned"), _RED),
}


def add_call(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "call",
        help="call a method",
        description="Calls a method of a running server and prints its result. A param that is JSON is sent as such, any "
        "other as a string; params of the form NAME=VALUE are sent by name.",
    )
    parser.add_argument("method", help="the method's name")
    parser.add_argument("params", nargs="*", metavar="PARAM", help="its params")
    add_connection(parser)
    parser.set_defaults(run=call)


def add_watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "watch",
        help="print events as they come",
        description="Subscribes to topics of a running server and prints their events until interrupted. It reconnects "
        "after a lost connection, and reports lost events.",
    )
    parser.add_argument("topics", nargs="+", metavar="TOPIC", help="such as blocks, mempool, peers, mining")
    parser.add_argument("--filter", metavar="JSON", help='which events, such as {"kind": "added"}')
    parser.add_argument(
        "--since",
        metavar="PLACE",
        help="begin after this block (HEIGHT or HEIGHT:HASH) or position (EPOCH:SEQ), of one topic",
    )
    parser.add_argument("--latest", action="store_true", help="skip to the newest whenever there is more than one")
    parser.add_argument("--count", type=int, metavar="N", help="stop after so many events")
    add_connection(parser)
    parser.set_defaults(run=watch)


def call(options: argparse.Namespace) -> int:
    """Make the call. Return the exit status, 1 if it fails."""
    named = [text.partition("=") for text in options.params]
    by_name = bool(named) and all(equals and name.isidentifier() for name, equals, _ in named)
    try:
        params: Any = (
            {name: _value(text) for name, _, text in named} if by_name else [_value(t) for t in options.params]
        )
        with connect(options, wait_for_server=False) as client:
            result = client.request(options.method, params)
    except (RpcError, ClientError, ConfigError) as error:
        print(f"dilithion-ws: {clean(str(error))}", file=sys.stderr)
        return 1
    text = encode_json(result)
    if options.json:
        print(text.decode())
    elif isinstance(result, str):
        print(clean(result))
    else:
        print(msgspec.json.format(text).decode())
    return 0


def watch(options: argparse.Namespace) -> int:
    """Print events. Return the exit status, 1 after an error."""
    try:
        filter = None if options.filter is None else _filter(options.filter)
        since = None if options.since is None else _since(options.since, options.topics)
        with connect(options) as client:
            mode = "latest" if options.latest else None
            subscriptions = [client.subscribe(topic, filter=filter, since=since, mode=mode) for topic in options.topics]
            return _print_all(subscriptions, options)
    except (RpcError, ClientError, ConfigError) as error:
        print(f"dilithion-ws: {clean(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _print_all(subscriptions: list[Subscription], options: argparse.Namespace) -> int:
    found, left = merged(*subscriptions), options.count
    while left is None or left > 0:
        try:
            event = next(found)
        except StopIteration:
            return 1
        except EventsLostError as error:
            print(f"dilithion-ws: {clean(str(error))}", file=sys.stderr, flush=True)
        else:
            _print(event, options.json)
            left = None if left is None else left - 1
    return 0


def _print(event: Event, as_json: bool) -> None:
    if as_json:
        line = {"topic": event.topic, "epoch": event.epoch, "seq": event.seq, "event": event.data}
        if event.seq is None:
            line = {"topic": event.topic, "since": event.since._asdict(), "event": event.data}
        print(encode_json(line).decode(), flush=True)
        return
    data = dict(event.data) if isinstance(event.data, dict) else {"": event.data}
    kind = clean(str(data.pop("kind", "")))
    if sys.stdout.isatty():
        kind = f"\033[{_COLOURS.get(kind, _CYAN)}m{kind}\033[0m"
    fields = " ".join(f"{clean(name)}={_shown(value)}" if name else _shown(value) for name, value in data.items())
    number = event.data.get("height", "") if event.seq is None else event.seq
    print(f"{clean(event.topic)} {number} {kind} {fields}", flush=True)


def _shown(value: Any) -> str:
    return clean(value) if isinstance(value, str) else encode_json(value).decode()


def clean(text: str) -> str:
    """Return a text of a server with its control characters escaped."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_no_number)
    except RecursionError:
        raise ConfigError("a param is nested too deeply") from None
    except ValueError:
        return text


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _filter(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--filter is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError('--filter takes an object, such as {"kind": "added"}')
    return found


def _since(text: str, topics: list[str]) -> AfterBlock | Position:
    first, colon, last = text.rpartition(":")
    if len(topics) != 1:
        raise ConfigError("--since goes with one topic only")
    if text.isdecimal():
        return AfterBlock(int(text))
    if not colon or not (first.isdecimal() or last.isdecimal()):
        raise ConfigError(f"--since is {text!r}; it takes HEIGHT, HEIGHT:HASH, or EPOCH:SEQ, as --json prints them")
    # An epoch and a hash are hexadecimal, and may have no letters. Epochs have 16 digits, and hashes 64.
    return AfterBlock(int(first), last) if len(last) > 20 else Position(first, int(last))
