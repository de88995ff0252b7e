"""What is measured, of whom, and how one sample of it is taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .servers import BARE, PEERS, US, Server, Tools

CALL = '{"jsonrpc":"2.0","id":1,"method":"getblockcount","params":[]}'
WAIT = '{"jsonrpc":"2.0","id":1,"method":"wait","params":[]}'
SUBSCRIBE = '{"jsonrpc":"2.0","id":1,"method":"subscribe","params":["ticks"]}'
SEND = '{"jsonrpc":"2.0","id":1,"method":"%s","params":[%d,200]}'

Sample = dict[str, Any]


class Scenario(NamedTuple):
    """One row of the comparison.

    Attributes:
        title: what happens.
        unit: what `per_s` of a sample counts; `bytes` for memory per connection.
        targets: by server, the ratio that we want to reach; these are measured in every round, others in one.
        take: takes a sample of a server.
        servers: who can do it.
        quick: whether it is part of a quick run.
    """

    title: str
    unit: str
    targets: dict[str, float]
    take: Callable[[str, Tools, float], Sample]
    servers: tuple[str, ...] = (US, BARE, *PEERS)
    quick: bool = False


def _calls(*words: str, pinned: bool = True) -> Callable[[str, Tools, float], Sample]:
    def take(name: str, tools: Tools, seconds: float) -> Sample:
        with Server(name, tools, 0 if pinned else None) as server:
            return server.load("calls", "-t", str(seconds), *words, core=1 if pinned else None)

    return take


def _mixed(name: str, tools: Tools, seconds: float) -> Sample:
    """Fast calls alone, and then beside slow ones."""
    with Server(name, tools, None) as server:
        alone = server.load("calls", "-n", "90", "-t", str(seconds), core=None)
        beside = server.load("calls", "-n", "90", "-s", f"10:{WAIT}", "-t", str(seconds), core=None)
    if "error" not in beside and "error" not in alone:
        beside["of_alone"] = beside["per_s"] / alone["per_s"]
    return beside


def _fan(clients: int, burst: int, rounds: int, method: str = "publish") -> Callable[[str, Tools, float], Sample]:
    """Messages to many clients. Only ours knows topics, so the others broadcast in any case."""

    def take(name: str, tools: Tools, seconds: float) -> Sample:
        with Server(name, tools) as server:
            return server.load(
                *("fan", "-n", str(clients), "-k", str(burst), "-r", str(rounds), "-q", "16"),
                *("-g", SUBSCRIBE if name == US and method == "publish" else CALL),
                *("-b", SEND % (method if name == US else "broadcast", burst)),
            )

    return take


def _churn(*options: str) -> Callable[[str, Tools, float], Sample]:
    def take(name: str, tools: Tools, seconds: float) -> Sample:
        with Server(name, tools, options=options) as server:
            return server.load("churn", "-q", "4", "-t", str(seconds))

    return take


def _memory(clients: int, *options: str) -> Callable[[str, Tools, float], Sample]:
    def take(name: str, tools: Tools, seconds: float) -> Sample:
        kept = [option for option in options if option != "subscribed"]
        with Server(name, tools, options=kept) as server:
            server.load("calls", "-n", "50", "-t", "0.2", "-w", "0")
            words = ["-n", str(clients), "-q", "16", "-g", SUBSCRIBE if "subscribed" in options else CALL]
            before = server.memory()
            with server.hold(*words, *(["-z"] if "deflate" in options else [])):
                time.sleep(1)  # what was freed goes back to the system
                after = server.memory()
        return {"bytes": (after - before) / clients, "empty": before}

    return take


def _idle(clients: int) -> Callable[[str, Tools, float], Sample]:
    def take(name: str, tools: Tools, seconds: float) -> Sample:
        length = max(10.0, 42 * seconds)  # with the default settings a ping comes every 20 s
        with Server(name, tools) as server, server.hold("-n", str(clients), "-q", "16", "-g", CALL):
            before = server.cpu_seconds()
            time.sleep(length)
            return {"cpu": (server.cpu_seconds() - before) / length}

    return take


_MOST = ("websockets asyncio", "aiohttp", "picows", "socketify", "Node ws")
_PLAIN = (US, *_MOST)
_LARGE = (US, BARE, *_MOST)
"""Those that have no thread for each client."""

SCENARIOS: dict[str, Scenario] = {
    "calls-1": Scenario("calls, 1 connection", "calls", {"picows": 1.2, "socketify": 0.8}, _calls("-n", "1")),
    "calls-50": Scenario("calls, 50 connections", "calls", {"picows": 1.3}, _calls("-n", "50"), quick=True),
    "calls-500": Scenario(
        "calls, 500 connections",
        "calls",
        {"picows": 1.25, "websockets asyncio": 2.5, "websockets threads": 8.0},
        _calls("-n", "500", "-w", "0.8"),
        quick=True,
    ),
    "paced-500": Scenario(
        "5,000 calls/s, evenly spread over 500 connections",
        "calls",
        {"picows": 1.0},
        _calls("-n", "500", "-R", "5000"),
        _LARGE,
        quick=True,
    ),
    "calls-2000": Scenario(
        "calls, 2,000 connections", "calls", {"picows": 1.2}, _calls("-n", "2000", "-w", "1.5"), _LARGE
    ),
    "calls-50x16": Scenario(
        "calls, 16 in flight on 50 connections",
        "calls",
        {"socketify": 2.2},
        _calls("-n", "50", "-d", "16"),
        quick=True,
    ),
    "mixed": Scenario(
        "fast calls on 90 connections beside 10 of slow ones, two cores",
        "calls",
        {"websockets threads": 2.5},
        _mixed,
        (US, "websockets threads", "simple-websocket"),
    ),
    "fan-1000": Scenario(
        "an event to 1,000 subscribers",
        "events",
        {"websockets asyncio": 1.5, "picows": 1.15, "socketify": 1.0, BARE: 0.8},
        _fan(1000, 1, 40),
        quick=True,
    ),
    "broadcast-1000": Scenario(
        "a broadcast to 1,000 clients",
        "messages",
        {"picows": 1.15, "socketify": 1.0},
        _fan(1000, 1, 40, "broadcast"),
        _LARGE,
        quick=True,
    ),
    "broadcast-1000x20": Scenario(
        "bursts of 20 broadcasts to 1,000 clients",
        "messages",
        {"socketify": 0.8},
        _fan(1000, 20, 10, "broadcast"),
        _LARGE,
    ),
    "fan-5000": Scenario(
        "an event to 5,000 subscribers",
        "events",
        {"websockets asyncio": 1.5, "picows": 1.0, BARE: 0.8},
        _fan(5000, 1, 10),
        _LARGE,
    ),
    "fan-1000x20": Scenario(
        "bursts of 20 events to 1,000 subscribers",
        "events",
        {"websockets asyncio": 10.0, "socketify": 1.0},
        _fan(1000, 20, 10),
        _LARGE,
        quick=True,
    ),
    "fan-5000x20": Scenario(
        "bursts of 20 events to 5,000 subscribers",
        "events",
        {"websockets asyncio": 10.0, "socketify": 0.8},
        _fan(5000, 20, 3),
        _LARGE,
    ),
    "churn": Scenario(
        "connect, call, close", "connections", {"picows": 1.1, "aiohttp": 1.4, "socketify": 0.5}, _churn(), quick=True
    ),
    "churn-tls": Scenario(
        "connect, call, close over TLS",
        "connections",
        {"picows": 1.0, "aiohttp": 1.0, "socketify": 1.0, BARE: 0.9},
        _churn("tls"),
        (US, BARE, "picows", "aiohttp", "socketify", "websockets asyncio"),
    ),
    "bulk": Scenario(
        "messages of 1 MiB, there and back",
        "messages",
        {"websockets asyncio": 0.8},
        _calls("-n", "2", "-M", "1048576"),
        _PLAIN,
    ),
    "memory-1000": Scenario("memory of 1,000 idle connections", "bytes", {}, _memory(1000), _PLAIN, quick=True),
    "memory-10000": Scenario("memory of 10,000 idle connections", "bytes", {}, _memory(10_000), (US, "socketify")),
    **{
        f"memory-{count}-{kind}": Scenario(
            f"memory of {count:,} connections, {kind}",
            "bytes",
            {},
            _memory(count, kind),
            (US, BARE) if kind == "tls" else (US,),
        )
        for kind in ("subscribed", "deflate", "tls")
        for count in (1000, 10_000)
    },
    "idle": Scenario("processor time of 5,000 idle connections", "cpu", {}, _idle(5000), (US,)),
}


def visits(scenario: Scenario, rounds: int, only: Sequence[str]) -> list[tuple[int, str]]:
    """Return which server is measured in which round; the order rotates, so that none always comes first."""
    names = [name for name in scenario.servers if not only or name in only or name == US]
    found = []
    for number in range(rounds):
        these = [name for name in names if not number or name == US or name in scenario.targets]
        start = number * len(these) // rounds
        found += [(number, name) for name in these[start:] + these[:start]]
    return found
