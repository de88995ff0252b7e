"""`dilithion-ws status`, `topics` and `methods`: what a running server is doing, and what it offers."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..client import Client, ClientError
from ..errors import ConfigError, JsonRpcCode, RpcError
from ..util.json import encode_json
from .client_options import add_connection, check_timeout, connect, report_failure, server_url
from .event_lines import clean

__all__ = ["add_methods", "add_status", "add_topics"]

_MOST_HEALTH = 1 << 20
_MOST_METHODS = 8

Action = Callable[[argparse.Namespace], int]


def add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = _add(
        commands,
        "status",
        _status,
        "show how a server is",
        "Prints what a running server reports about itself: whether it is ready, its event store and its node, and, for "
        "users with READ_METRICS, connections, subscriptions, calls and refusals. Exits with 1 if something is not good.",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="print nothing, and exit with 0 if the server serves, whatever its node does",
    )


def add_topics(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    _add(
        commands,
        "topics",
        _topics,
        "list the topics of a server",
        "Prints the topics that the user may subscribe to: how many events each has had, how many are kept, and by what "
        "they can be filtered.",
    )


def add_methods(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = _add(
        commands,
        "methods",
        _methods,
        "list the methods of a server",
        "Prints the methods that the user may call, with their params and a summary; params in brackets are optional.",
    )
    parser.add_argument("text", nargs="?", default="", metavar="TEXT", help="only those whose name or summary has it")


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    action: Action,
    help: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=description)
    add_connection(parser)

    def run(options: argparse.Namespace) -> int:
        try:
            return action(options)
        except (RpcError, ClientError, ConfigError) as error:
            return report_failure(error)

    parser.set_defaults(run=run)
    return parser


def _topics(options: argparse.Namespace) -> int:
    with connect(options, wait_for_server=False) as client:
        topics = client.request("topics", [])
    if options.json:
        print(encode_json(topics).decode())
        return 0
    rows = [
        (
            one["topic"],
            str(one["seq"]),
            str(max(0, one["seq"] - one["first"] + 1)),
            one["permission"] or "-",
            " ".join(one["filters"]),
        )
        for one in topics
    ]
    _print_table(("TOPIC", "EVENTS", "KEPT", "PERMISSION", "FILTERS"), rows)
    return 0


def _methods(options: argparse.Namespace) -> int:
    with connect(options, wait_for_server=False) as client:
        methods = client.request("rpc.discover", [])["methods"]
    wanted = options.text.lower()
    found = [one for one in methods if wanted in f"{one['name']} {one.get('summary', '')}".lower()]
    if options.json:
        print(encode_json(found).decode())
    else:
        _print_table(
            ("METHOD", "PARAMS", "SUMMARY"), [(one["name"], _params(one), one.get("summary", "")) for one in found]
        )
    if not found and wanted:
        print(f"dilithion-ws: no method has {options.text!r} in its name or summary", file=sys.stderr)
    return 0 if found else 1


def _params(method: dict[str, Any]) -> str:
    return " ".join(one["name"] if one.get("required") else f"[{one['name']}]" for one in method.get("params", ()))


def _status(options: argparse.Namespace) -> int:
    health = _read_health(options)
    if options.live:
        return 0 if health.get("ready") else 1
    statistics: dict[str, Any] | None = None
    reason = ""
    try:
        with connect(options, wait_for_server=False) as client:
            statistics = _read_statistics(client)
    except RpcError as error:
        if error.code not in (JsonRpcCode.PERMISSION_DENIED, JsonRpcCode.NOT_AUTHENTICATED):
            raise
        reason = str(error)
    if options.json:
        print(encode_json({"health": health, "statistics": statistics}).decode())
    else:
        _print_pairs([*_health_rows(health), *(_statistics_rows(statistics) if statistics else [])])
        if reason:
            print(f"dilithion-ws: the server's numbers need READ_METRICS: {clean(reason)}", file=sys.stderr)
    return 0 if _is_good(health) else 1


def _read_statistics(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.request("rpc.statistics", [])
    return found


def _read_health(options: argparse.Namespace) -> dict[str, Any]:
    """Return what `GET /health` answers."""
    check_timeout(options)
    url, context = server_url(options)
    if not url.startswith(("ws://", "wss://")):
        raise ConfigError(f"{url!r} is not the address of a server, such as ws://127.0.0.1:8333")
    address = "http" + url.removeprefix("ws").rstrip("/") + "/health"
    # Proxies of the environment are for the internet, not for a node of one's own.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None and url.startswith("wss:"):
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(address, timeout=options.timeout) as response:
            text = response.read(_MOST_HEALTH)
    except urllib.error.HTTPError as error:
        if error.code == 426 and options.live:
            return {"ready": True}  # a server without HTTP asks for an upgrade
        if error.code != 503:
            raise ConfigError(f"{address} has the status {error.code}; is it a server of dilithion_ws?") from None
        text = error.read(_MOST_HEALTH)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"{address} can't be read: {getattr(reason, 'strerror', None) or reason}") from None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{address} is not the health of a server of dilithion_ws")
    return found


def _is_good(health: dict[str, Any]) -> bool:
    reports = [one for one in health.values() if isinstance(one, dict)]
    return bool(health.get("ready")) and all(one.get("good", True) for one in reports)


def _health_rows(health: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("ready", "yes" if health.get("ready") else "no: the server is stopping")]
    for name, value in health.items():
        if isinstance(value, dict):
            details = ", ".join(f"{key} {_text(one)}" for key, one in value.items() if key != "good" and one != "")
            rows.append((name, ("good" if value.get("good") else "NOT GOOD") + (f": {details}" if details else "")))
        elif name not in ("live", "ready"):
            rows.append((name, _text(value)))
    return rows


def _statistics_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    connections, topics = found["connections"], found["topics"]
    states = ", ".join(f"{count} {state}" for state, count in connections["by_state"].items() if count)
    jobs = {name: one for name, one in found["jobs"].items() if one["running"] or one["queued"]}
    refusals = {name: count for name, count in found["refusals"].items() if count}
    calls = sorted(found["methods"].items(), key=lambda item: -item[1]["seconds"])
    rows = [
        ("up for", f"{found['uptime']:.0f} s"),
        ("connections", states or "none"),
        ("accepted so far", str(connections["accepted"])),
        ("calls in flight", str(connections["in_flight"])),
        (
            "jobs",
            ", ".join(f"{name}: {one['running']} run, {one['queued']} wait" for name, one in jobs.items()) or "none",
        ),
        ("subscriptions", str(sum(one["subscriptions"] for one in topics.values()))),
        ("largest lag", f"{max((one['max_lag'] for one in topics.values()), default=0)} events"),
        ("refusals", ", ".join(f"{count} {name}" for name, count in refusals.items()) or "none"),
    ]
    for name, one in calls[:_MOST_METHODS]:
        total = one["succeeded"] + one["failed"]
        text = (
            f"{total} calls, {one['failed']} failed, {1000 * one['seconds'] / total:.1f} ms on average, {one['speed']}"
        )
        rows.append((name, text))
    return rows


def _text(value: Any) -> str:
    return clean(value if isinstance(value, str) else encode_json(value).decode())


def _print_pairs(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{clean(name):{width}}  {text}")


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [head, *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
