"""`dilithion-ws call` and `dilithion-ws watch`: a client at the command line."""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from decimal import Decimal
from typing import Any

import msgspec

from ..client import ClientError, Event, EventsLostError, Subscription
from ..errors import ConfigError, RpcError
from ..events.log import Position
from .client_options import add_connection, connect

__all__ = ["add_call", "add_watch", "clean"]

_MOST_WAITING = 1000
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
    parser.add_argument("--since", metavar="EPOCH:SEQ", help="begin after this position (of one topic)")
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
        with connect(options) as client:
            result = client.request(options.method, params)
    except (RpcError, ClientError, ConfigError) as error:
        print(f"dilithion-ws: {clean(str(error))}", file=sys.stderr)
        return 1
    text = msgspec.json.encode(result)
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
    found: queue.Queue[Event | BaseException | None] = queue.Queue(_MOST_WAITING)
    for subscription in subscriptions:
        threading.Thread(target=_follow, args=(subscription, found), daemon=True).start()
    left = options.count
    while left is None or left > 0:
        event = found.get()
        if event is None:
            return 1
        if isinstance(event, EventsLostError):
            print(f"dilithion-ws: {clean(str(event))}", file=sys.stderr, flush=True)
        elif isinstance(event, BaseException):
            raise event
        else:
            _print(event, options.json)
            left = None if left is None else left - 1
    return 0


def _follow(subscription: Subscription, found: queue.Queue[Event | BaseException | None]) -> None:
    """Put the events of one subscription into a queue."""
    while True:
        try:
            event = subscription.get()
        except EventsLostError as error:
            found.put(error)
        except BaseException as error:
            found.put(error)
            return
        else:
            found.put(event)
            if event is None:
                return


def _print(event: Event, as_json: bool) -> None:
    if as_json:
        line = {"topic": event.topic, "epoch": event.epoch, "seq": event.seq, "event": event.data}
        print(msgspec.json.encode(line).decode(), flush=True)
        return
    data = dict(event.data) if isinstance(event.data, dict) else {"": event.data}
    kind = clean(str(data.pop("kind", "")))
    if sys.stdout.isatty():
        kind = f"\033[{_COLOURS.get(kind, _CYAN)}m{kind}\033[0m"
    fields = " ".join(f"{clean(name)}={_shown(value)}" if name else _shown(value) for name, value in data.items())
    print(f"{clean(event.topic)} {event.seq} {kind} {fields}", flush=True)


def _shown(value: Any) -> str:
    return clean(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


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


def _since(text: str, topics: list[str]) -> Position:
    epoch, colon, seq = text.rpartition(":")
    if not colon or not seq.isdecimal():
        raise ConfigError(f"--since is {text!r}; it takes EPOCH:SEQ, as --json prints them")
    if len(topics) != 1:
        raise ConfigError("--since goes with one topic only")
    return Position(epoch, int(seq))
