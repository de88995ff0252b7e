"""`dilithion-ws watch`: events at the command line, as they come."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from typing import Any

from ..client import AfterBlock, ClientError, Event, EventsLostError, Position, Subscription, merged
from ..errors import ConfigError, RpcError
from ..util.json import encode_json
from .client_options import add_connection, connect, report_failure
from .event_lines import EventLines

__all__ = ["add_watch"]


def add_watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "watch",
        help="print events as they come",
        description="Subscribes to topics of a running server and prints their events until interrupted: a line for "
        "each, or with --json a JSON object. After a lost connection it resumes where it was, and says so. It reports "
        "lost events.",
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


def watch(options: argparse.Namespace) -> int:
    """Print events. Return the exit status, 1 after an error."""
    try:
        filter = None if options.filter is None else _filter(options.filter)
        since = None if options.since is None else _since(options.since, options.topics)
        with connect(options, wait_for_server=False) as client:
            mode = "latest" if options.latest else None
            subscriptions = [client.subscribe(topic, filter=filter, since=since, mode=mode) for topic in options.topics]
            return _print_all(subscriptions, options)
    except (RpcError, ClientError, ConfigError) as error:
        return report_failure(error)
    except KeyboardInterrupt:
        return 0


def _print_all(subscriptions: list[Subscription], options: argparse.Namespace) -> int:
    found, left = merged(*subscriptions), options.count
    is_terminal = sys.stdout.isatty()
    lines = EventLines(options.topics, shutil.get_terminal_size().columns if is_terminal else None, is_terminal)
    while left is None or left > 0:
        try:
            event = next(found)
        except StopIteration:
            return 1
        except EventsLostError as error:
            report_failure(error)
        else:
            _print(event, None if options.json else lines)
            left = None if left is None else left - 1
    return 0


def _print(event: Event, lines: EventLines | None) -> None:
    if lines is not None:
        print(lines.line(event, time.time()), flush=True)
        return
    line = {"topic": event.topic, "epoch": event.epoch, "seq": event.seq, "event": event.data}
    if event.seq is None:
        line = {"topic": event.topic, "since": event.since._asdict(), "event": event.data}
    print(encode_json(line).decode(), flush=True)


def _filter(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--filter is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError('--filter takes an object, such as {"kind": "added"}')
    return found


def _since(text: str, topics: list[str]) -> AfterBlock | Position:
    first, _, last = text.rpartition(":")
    if len(topics) != 1:
        raise ConfigError("--since goes with one topic only")
    if re.fullmatch(r"\d+", text, re.ASCII):
        return AfterBlock(int(text))
    # An epoch and a hash are hexadecimal, and may have no letters, so their lengths tell them apart.
    if re.fullmatch(r"\d+:[0-9a-f]{33,}", text, re.ASCII):
        return AfterBlock(int(first), last)
    if re.fullmatch(r"[^:]+:\d{1,19}", text, re.ASCII):
        return Position(first, int(last))
    raise ConfigError(
        f"--since is {text!r}; it takes HEIGHT, HEIGHT:HASH with the whole hash, or EPOCH:SEQ, as --json prints them"
    )
