"""Faults of the event store."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .processes import Host, SwarmProcess, free_port, host, swarm, told, wait_for
from .scenario import NotHereError, Terms, scenario

_SUBSCRIBERS = 20


def _stored(server: Host, seq: int) -> str:
    """Return the epoch of the server's log, once it is so long."""
    status = server.status
    return str(status["epoch"]) if status["seq"] >= seq else ""


def _settle(server: Host, bees: SwarmProcess, more: int = 50) -> dict[str, Any]:
    """Publish some more events, end publishing, and wait until all subscribers have everything."""
    server.tell("rate 0")
    server.tell(f"burst {more}")
    time.sleep(0.5)  # so that a store has taken what was published
    return bees.wait_until_all_are_at(server.status["seq"])


@scenario("kill")
def kill(terms: Terms) -> str:
    """Killed again and again while it writes to SQLite: no event is missing, repeated or renumbered"""
    port, chance = free_port(), random.Random(1)
    settings = {"port": port, "event_store": f"sqlite:{terms.folder / 'events.db'}", "rate": 1000}
    kills = int(terms.choose(4, 30))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(host(**settings, life="0"))
        bees = stack.enter_context(swarm(port, _SUBSCRIBERS))
        bees.wait_until_all_are_at(100)
        for life in range(kills):
            time.sleep(chance.uniform(0.1, 0.5))
            server.kill()
            server = stack.enter_context(host(**settings, life=str(life + 1)))
        report = _settle(server, bees)
        assert report["epochs"] == 1, "one numbering through all of it"
        assert told(report) == 0, report
        return f"{kills} kills, {report['highest']} events, {report['connections']} connections"


@contextlib.contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=False, capture_output=True
        ).returncode
    ):
        raise NotHereError("needs the right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@scenario("full-disk")
def full_disk(terms: Terms) -> str:
    """The disk is full for a while: events go on in memory and then in the file, and no subscriber misses one"""
    with _small_disk(terms.folder, "4m") as disk:
        store = f"sqlite:{disk / 'events.db'}"
        settings = {"event_store": store, "rate": 200, "store_retry": 0.5}
        with host(**settings) as server, swarm(server.port, _SUBSCRIBERS) as bees:
            bees.wait_until_all_are_at(100)
            filling = disk / "filling"
            with contextlib.suppress(OSError), open(filling, "wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
            wait_for(lambda: server.status["store"]["fault"] == "full", 30, "the full disk")
            time.sleep(terms.choose(1, 10))
            filling.unlink()
            wait_for(lambda: server.status["store"]["fault"] == "", 30, "the return to the file")
            report = _settle(server, bees)
            assert report["continued in a new epoch"] == _SUBSCRIBERS, report
            assert told(report) == 0, report
            place = server.status["seq"], server.status["epoch"]
            port = server.port
            server.close()
            with host(**{**settings, "rate": 0, "port": port}) as again:
                assert (again.status["seq"], again.status["epoch"]) == place, "the file has what was in memory"
                report = _settle(again, bees)
                assert told(report) == 0, report
                return f"{report['different events']} events, {_SUBSCRIBERS} subscribers continued in the new epoch"


@scenario("full-at-start")
def full_at_start(terms: Terms) -> str:
    """A start on a full disk serves, says so, and goes to the file when there is room"""
    with _small_disk(terms.folder, "1m") as disk:
        filling = disk / "filling"
        with contextlib.suppress(OSError), open(filling, "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        settings = {"event_store": f"sqlite:{disk / 'events.db'}", "rate": 50, "store_retry": 0.5}
        with host(**settings) as server, swarm(server.port, 5) as bees:
            bees.wait_until_all_are_at(10)
            assert server.status["store"]["fault"] == "full"
            filling.unlink()
            wait_for(lambda: server.status["store"]["fault"] == "", 30, "the use of the file")
            report = _settle(server, bees)
            assert told(report) == 0, report
            return f"{report['highest']} events"


@scenario("read-only")
def read_only(terms: Terms) -> str:
    """The kernel makes the file system read-only after an error: events go on in memory, without a loss"""
    image, disk = terms.folder / "image", terms.folder / "disk"
    disk.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    made = (
        shutil.which("mkfs.ext4")
        and not subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=False, capture_output=True).returncode
    )
    if (
        not made
        or subprocess.run(
            ["mount", "-o", "loop,errors=remount-ro", str(image), str(disk)], check=False, capture_output=True
        ).returncode
    ):
        raise NotHereError("needs ext4, loop devices, and the right to mount")
    try:
        device = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(disk)], check=True, capture_output=True, text=True
        ).stdout.strip()
        trigger = Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error")
        if not trigger.exists():
            raise NotHereError("needs a kernel with trigger_fs_error")
        settings = {"event_store": f"sqlite:{disk / 'events.db'}", "rate": 100, "store_retry": 0.5}
        with host(**settings) as server, swarm(server.port, _SUBSCRIBERS) as bees:
            bees.wait_until_all_are_at(50)
            trigger.write_text("1")
            fault = wait_for(lambda: server.status["store"]["fault"], 30, "the fault")
            report = _settle(server, bees)
            assert told(report) == 0, report
            return f"{fault}; {report['different events']} events"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@scenario("damage")
def damage(terms: Terms) -> str:
    """A changed byte, and rows that are missing, in a stored log: those who want what was before get an error"""
    outcomes = []
    for kind in ("byte", "rows"):
        path, port = terms.folder / f"{kind}.db", free_port()
        settings = {"port": port, "event_store": f"sqlite:{path}"}
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(host(**settings))
            server.tell("burst 600")
            epoch = wait_for(functools.partial(_stored, server, 600), 20, "the events")
            server.close()
            with contextlib.closing(sqlite3.connect(path)) as db, db:
                if kind == "byte":
                    db.execute(
                        "UPDATE entries SET data = replace(data, 'xxxx', 'xxyx') WHERE topic = 't' AND seq = 300"
                    )
                else:
                    db.execute("DELETE FROM entries WHERE topic = 't' AND seq BETWEEN 290 AND 300")
            again = stack.enter_context(host(**settings, life="2"))
            bees = stack.enter_context(swarm(port, 5, place=(epoch, 20)))
            later = stack.enter_context(swarm(port, 5, place=(epoch, 400)))
            assert told(_settle(again, later)) == 0, "what is after the damage is whole"
            report = _settle(again, bees)
            assert told(report) == 5, report
            assert again.status["store"]["damaged"] > 0
            outcomes.append(f"{kind}: {report['told: expired']} told")
    return ", ".join(outcomes)


@contextlib.contextmanager
def _redis(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    if shutil.which("redis-server") is None:
        raise NotHereError("needs redis-server")
    folder.mkdir(exist_ok=True)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: _command(port, "ping") == "PONG", 20, "Redis")
        yield process
    finally:
        process.send_signal(18)
        process.kill()
        process.wait(10)


def _command(port: int, *words: str) -> str:
    return subprocess.run(
        ["redis-cli", "-p", str(port), *words], check=False, capture_output=True, text=True
    ).stdout.strip()


def _with_redis(terms: Terms, name: str, seconds: float, harm: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run two servers that publish to one topic in Redis, do harm, and return what the subscribers of both have seen."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        folder = terms.folder / name
        redis = stack.enter_context(_redis(folder, port))
        settings = {"event_store": f"redis://127.0.0.1:{port}/0", "rate": 100}
        servers = [stack.enter_context(host(**settings, life=life)) for life in "ab"]
        both = [stack.enter_context(swarm(server.port, 5)) for server in servers]
        for bees in both:
            bees.wait_until_all_are_at(100)
        harm(stack, redis, port, folder, seconds)
        wait_for(lambda: all(not server.status["store"]["fault"] for server in servers), 60, "the end of the fault")
        for server in servers:
            server.tell("rate 0")
        time.sleep(1.0)
        servers[0].tell("burst 20")
        time.sleep(1.0)
        seq = servers[0].status["seq"]
        one, other = (bees.wait_until_all_are_at(seq) for bees in both)
        assert servers[1].status["seq"] == seq, "both have one log"
        return one, other


def _killed(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    redis.kill()
    redis.wait(10)
    time.sleep(seconds)
    stack.enter_context(_redis(folder, port))


def _stopped(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    redis.send_signal(19)
    time.sleep(seconds)
    redis.send_signal(18)


def _flushed(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    _command(port, "flushall")


def _deleted(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    for number in range(10, 20):
        _command(port, "xdel", "dilithion-ws:t:stream", f"{number}-0")


def _forbidden(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    _command(port, "acl", "setuser", "default", "-eval")
    time.sleep(seconds)
    _command(port, "acl", "setuser", "default", "+eval")


def _full(stack: contextlib.ExitStack, redis: Any, port: int, folder: Path, seconds: float) -> None:
    _command(port, "config", "set", "maxmemory", "1")
    time.sleep(seconds)
    _command(port, "config", "set", "maxmemory", "0")


@scenario("redis")
def redis_faults(terms: Terms) -> str:
    """Two servers on one Redis that is killed, stopped, full or forbidden: nothing is lost; emptied: all get an error"""
    outcomes = []
    for name, harm, short, long, is_loss in (
        ("killed", _killed, 1, 5, False),
        ("stopped", _stopped, 3, 60, False),
        ("forbidden", _forbidden, 3, 10, False),
        ("full", _full, 3, 10, False),
        ("deleted", _deleted, 0, 0, False),
        ("flushed", _flushed, 0, 0, True),
    ):
        reports = _with_redis(terms, name, terms.choose(short, long), harm)
        count = sum(told(report) for report in reports)
        assert bool(count) is is_loss, (name, reports)
        outcomes.append(f"{name}: {reports[0]['different events']} events" + (f", {count} told" if count else ""))
    return "; ".join(outcomes)
