"""Faults of processes and machines: stopped, killed, restarted, forked, short of files or memory, with a wrong clock."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dilithion_ws import RpcError
from dilithion_ws.client import Client

from ..lossy_link import has_links
from .processes import host, swarm, told, wait_for
from .scenario import NotHereError, Terms, scenario

_SUBSCRIBERS = 20
_FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


@contextlib.contextmanager
def _callers(port: int, count: int) -> Iterator[Counter[str]]:
    """Have clients call `quick` one call after the other. Yield what came of it, which is complete after the block."""
    outcomes: Counter[str] = Counter()
    stopping = threading.Event()

    def call() -> None:
        with Client(f"ws://127.0.0.1:{port}", timeout=30) as client:
            while not stopping.is_set():
                try:
                    client.call("quick")
                    outcomes["answered"] += 1
                except RpcError as error:
                    outcomes[f"refused with {error.code}"] += 1
                except Exception as error:
                    outcomes[type(error).__name__] += 1

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stopping.set()
        for thread in threads:
            thread.join(40)


@scenario("upgrade")
def upgrade(terms: Terms) -> str:
    """A restart under socket activation: no connection is refused, and 1,000 subscribers miss no event"""
    count = int(terms.choose(200, 1000))
    settings = {
        "event_store": f"sqlite:{terms.folder / 'events.db'}",
        "rate": 20,
        "connections": 2 * count,
        "connections_per_address": 2 * count,
    }
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock, contextlib.ExitStack() as stack:
        server = stack.enter_context(host(**settings, life="0", sock=sock))
        bees = stack.enter_context(swarm(sock.getsockname()[1], count, pause=0.05))
        bees.wait_until_all_are_at(20)
        restarts = int(terms.choose(2, 5))
        for life in range(restarts):
            assert server.close(30) == 0
            server = stack.enter_context(host(**settings, life=str(life + 1), sock=sock))
            report = bees.wait_until_all_are_at(server.status["seq"] + 20)
        refused = {name: count for name, count in report.items() if name.startswith(("refused", "lost"))}
        assert not refused, refused
        assert told(report) == 0, report
        return f"{restarts} restarts, {report['connections']} connections, {report['highest']} events for each"


@scenario("stopped-server")
def stopped_server(terms: Terms) -> str:
    """The server's process is stopped (SIGSTOP): subscribers get what was published before and after"""
    outcomes = []
    for seconds in (2,) if terms.short else (5, 60, 70):
        with host(rate=100) as server, swarm(server.port, _SUBSCRIBERS) as bees:
            bees.wait_until_all_are_at(100)
            server.pause(seconds)
            report = bees.wait_until_all_are_at(server.status["seq"] + 100)
            assert told(report) == 0, report
            outcomes.append(f"{seconds} s: {report['connections'] - _SUBSCRIBERS} connected again")
    return ", ".join(outcomes)


@scenario("stopped-client")
def stopped_client(terms: Terms) -> str:
    """Subscribers are stopped (SIGSTOP): they get everything afterwards, and others notice nothing"""
    outcomes = []
    for seconds in (2,) if terms.short else (5, 60, 70):
        with host(rate=100) as server, swarm(server.port, 5) as bees, swarm(server.port, 5) as others:
            bees.wait_until_all_are_at(100)
            others.wait_until_all_are_at(100)
            bees.pause(seconds)
            seq = server.status["seq"]
            report = bees.wait_until_all_are_at(seq)
            other = others.wait_until_all_are_at(seq)
            assert told(report) == 0, report
            assert other["connections"] == 5, other
            outcomes.append(f"{seconds} s: {report['connections'] - 5} connected again")
    return ", ".join(outcomes)


@scenario("held-lock")
def held_lock(terms: Terms) -> str:
    """The host holds the interpreter's lock for 2 s: no call is refused, and no connection is lost"""
    with host(rate=100) as server, swarm(server.port, _SUBSCRIBERS) as bees:
        bees.wait_until_all_are_at(50)
        with _callers(server.port, 20) as outcomes:
            for _ in range(int(terms.choose(1, 5))):
                time.sleep(0.5)
                server.tell("hold 2")
                time.sleep(2.5)
        assert set(outcomes) == {"answered"}, outcomes
        report = bees.wait_until_all_are_at(server.status["seq"])
        assert report["connections"] == _SUBSCRIBERS, report
        return f"{outcomes['answered']} calls"


@scenario("hiccup")
def hiccup(terms: Terms) -> str:
    """A quick method blocks once for 50 ms: none of the calls of 100 clients is refused"""
    with host() as server, _callers(server.port, int(terms.choose(30, 100))) as outcomes:
        for _ in range(int(terms.choose(3, 20))):
            time.sleep(0.5)
            server.tell("hiccup 0.05")
        time.sleep(0.5)
    assert set(outcomes) == {"answered"}, outcomes
    return f"{outcomes['answered']} calls"


@scenario("fork")
def fork(terms: Terms) -> str:
    """The host forks children that publish: they get an error, and the parent's clients notice nothing"""
    with host(rate=100) as server, swarm(server.port, _SUBSCRIBERS) as bees:
        bees.wait_until_all_are_at(50)
        for _ in range(int(terms.choose(3, 20))):
            assert server.ask("fork") == {"child": 3}
        report = bees.wait_until_all_are_at(server.status["seq"] + 50)
        assert report["connections"] == _SUBSCRIBERS, report
        return f"{report['highest']} events"


@scenario("few-files")
def few_files(terms: Terms) -> str:
    """The process may open 128 files, and 200 clients come: those that are in get everything, the others 503"""
    if shutil.which("prlimit") is None:
        raise NotHereError("needs prlimit")
    with host(rate=50, before=("prlimit", "--nofile=128:128")) as server, swarm(server.port, 5) as early:
        early.wait_until_all_are_at(50)
        with swarm(server.port, 200, pause=0.5) as crowd:
            wait_for(lambda: crowd.report.get("refused with 503", 0) > 200, 30, "refusals")
            report = early.wait_until_all_are_at(server.status["seq"] + 50)
            assert report["connections"] == 5, report
            served = crowd.report["subscribed"]
            refused = crowd.report["refused with 503"]
        with swarm(server.port, 5) as late:
            late.wait_until_all_are_at(server.status["seq"])
        return f"{served} served, {refused} refused, and 5 more when the crowd had gone"


@scenario("little-memory")
def little_memory(terms: Terms) -> str:
    """The process may take 1.5 GB, and calls want more: they fail, and everyone else goes on"""
    if shutil.which("prlimit") is None:
        raise NotHereError("needs prlimit")
    limit = ("prlimit", f"--as={1536 << 20}")
    with (
        host(rate=50, before=limit, result_size=4 << 30, call_timeout=60) as server,
        swarm(server.port, _SUBSCRIBERS) as bees,
        Client(f"ws://127.0.0.1:{server.port}", timeout=60) as client,
    ):
        bees.wait_until_all_are_at(50)
        failed = 0
        for _ in range(int(terms.choose(2, 10))):
            try:
                client.call("large", 1 << 30)
            except Exception:
                failed += 1
        assert failed == int(terms.choose(2, 10)), "they can't have had an answer"
        report = bees.wait_until_all_are_at(server.status["seq"] + 50)
        assert report["connections"] == _SUBSCRIBERS, report
        assert client.call("quick") > 0
        return f"{failed} calls failed"


@scenario("clock")
def clock(terms: Terms) -> str:
    """The clock jumps by hours, back and forth, with each kind of store: no event is missing, and no client is cut off"""
    library = next((path for path in _FAKETIME if os.path.exists(path)), None)
    if library is None:
        raise NotHereError("needs libfaketime (apt-get install faketime)")
    offset = terms.folder / "offset"
    outcomes = []
    for store in ("memory", f"sqlite:{terms.folder / 'events.db'}"):
        offset.write_text("+0\n")
        environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with host(event_store=store, rate=100, environment=environment) as server, swarm(server.port, 10) as bees:
            bees.wait_until_all_are_at(50)
            for jump in ("+3h", "-3h", "+30d", "+0"):
                offset.write_text(f"{jump}\n")
                bees.wait_until_all_are_at(server.status["seq"] + int(terms.choose(50, 300)))
            report = bees.report
            assert report["connections"] == 10, report
            assert told(report) == 0, report
            outcomes.append(f"{store.partition(':')[0]}: {report['highest']} events")
    return ", ".join(outcomes)


@scenario("link")
def link(terms: Terms) -> str:
    """A slow link that delays, loses and reorders packets, and then loses all: every client gets every event once"""
    if not has_links() or shutil.which("node") is None:
        raise NotHereError("needs root, ip, /dev/net/tun and node")
    from ..phone import run

    modules = Path(__file__).resolve().parents[2] / ".cache/node_modules"
    if not modules.is_dir():
        raise NotHereError("needs Node's ws (scripts/prepare)")
    calm, dead = terms.choose(4, 30), terms.choose(3, 60)
    reports = run(0.1, 0.05, calm, dead, modules, jitter=0.1, rate=50_000)
    return ", ".join(
        f"{report.name}: {report.ticks} events, median {report.lags[len(report.lags) // 2]:.2f} s" for report in reports
    )
