"""Attacks a server with its default limits, and reports what an honest client notices.

    scripts/abuse [--seconds S] [--local] [ATTACK ...]

Server, attacker and honest clients are processes of their own. Eight honest clients are logged in and make five calls a
second each; beside them a new client logs in four times a second. An attack succeeds if the 95th percentile of the honest
clients exceeds five times that without an attack (or 5 ms, if that is more), if one of their calls or a login gets no
answer, or if the server grows by more than 64 MiB.

The limits by address apply, as they do to clients from a network, although all connections come from loopback addresses.
With `--local` they do not, as for a program on the server's own machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.users import User, UsersFile, render_users

from .attacks import ATTACKS, Target

__all__ = ["Outcome", "main", "measure", "percentile"]

_HONEST, _NEWCOMER, _ATTACKER = "127.0.0.2", "127.0.0.3", "127.0.0.9"
_GROWTH = 64
_ROOT = Path(__file__).parent.parent
_FACTOR, _FLOOR_MS = 5.0, 5.0
_CLIENTS, _INTERVAL = 8, 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


class Outcome(NamedTuple):
    """What happened during one attack, or during none.

    Attributes:
        p95, worst: milliseconds of the honest client's calls.
        lost: calls of the honest client without an answer.
        logins, refused: of the new clients.
        server_cpu, attacker_cpu: seconds of CPU per second.
        growth: mebibytes by which the server's memory grew.
    """

    p95: float
    worst: float
    lost: int
    logins: int
    refused: int
    server_cpu: float
    attacker_cpu: float
    growth: float

    def faults(self, calm: Outcome) -> list[str]:
        """Return what is worse than it may be."""
        bound = max(_FACTOR * calm.p95, _FLOOR_MS)
        found = []
        if self.p95 > bound:
            found.append(f"p95 above {bound:.1f} ms")
        if self.lost:
            found.append("calls without an answer")
        if self.refused:
            found.append("logins refused")
        if self.growth > _GROWTH:
            found.append(f"memory above +{_GROWTH} MiB")
        return found


def percentile(values: list[float], part: float) -> float:
    """Return the value that this part of the values does not exceed; infinity if there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("inf")


class _Honest(threading.Thread):
    """Calls `getblockcount` five times a second over one connection."""

    def __init__(self, port: int, seconds: float, number: int) -> None:
        super().__init__()
        self._target = Target(port, seconds, _HONEST)
        self._sock = self._target.websocket(f"honest{number}")
        self._delay = number / _CLIENTS * _INTERVAL  # the clients take turns
        self.durations: list[float] = []
        self.lost = 0

    def run(self) -> None:
        call = _masked(b'{"method":"getblockcount","id":1}')
        sock = self._sock
        sock.settimeout(5.0)
        time.sleep(self._delay)
        with sock:
            while not self._target.is_over:
                started = time.perf_counter()
                try:
                    sock.sendall(call)
                    if b"840000" not in sock.recv(4096):
                        raise OSError("another answer")
                except OSError:
                    self.lost += 1
                    return
                self.durations.append((time.perf_counter() - started) * 1000)
                time.sleep(max(0.0, _INTERVAL - (time.perf_counter() - started)))


class _Newcomer(threading.Thread):
    """Logs in over new connections."""

    def __init__(self, port: int, seconds: float) -> None:
        super().__init__()
        self._target = Target(port, seconds, _NEWCOMER)
        self.logins = 0
        self.refused = 0

    def run(self) -> None:
        while not self._target.is_over:
            try:
                with self._target.connect() as sock:
                    sock.settimeout(5.0)
                    secret = base64.b64encode(b"newcomer:newcomernewcomer")
                    sock.sendall(
                        b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: 33\r\n"
                        b"Authorization: Basic " + secret + b'\r\n\r\n{"method":"getblockcount","id":1}'
                    )
                    answered = b"840000" in sock.recv(4096)
            except OSError:
                answered = False
            self.logins += answered
            self.refused += not answered
            time.sleep(0.25)


def _masked(payload: bytes) -> bytes:
    return b"\x81" + bytes([0x80 | len(payload)]) + b"\0\0\0\0" + payload


def measure(port: int, server: int, attack: str, seconds: float) -> Outcome:
    """Run one attack, or none for "", and return what the honest clients noticed."""
    memory, cpu = _memory(server), _cpu(server)
    honest, newcomer = [_Honest(port, seconds, number) for number in range(_CLIENTS)], _Newcomer(port, seconds)
    attacker = None
    if attack:
        command = [sys.executable, "-m", "benchmarks.abuse", "--attack", attack, str(port), str(seconds + 0.5)]
        attacker = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=_ROOT)
        time.sleep(0.5)  # until it is at work
    for client in (*honest, newcomer):
        client.start()
    for client in (*honest, newcomer):
        client.join()
    durations = [duration for client in honest for duration in client.durations]
    peak, used, attacker_cpu = _memory(server), _cpu(server) - cpu, 0.0
    if attacker is not None:
        attacker_cpu = _cpu(attacker.pid)
        try:
            attacker.wait(5)
        except subprocess.TimeoutExpired:
            attacker.kill()
            attacker.wait()
    return Outcome(
        percentile(durations, 0.95),
        max(durations, default=float("inf")),
        sum(client.lost for client in honest),
        newcomer.logins,
        newcomer.refused,
        used / (seconds + (0.5 if attack else 0.0)),
        attacker_cpu / seconds,
        peak - memory,
    )


def _memory(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _block() -> float:
    time.sleep(0.5)
    return 1.0


def _serve(local: bool) -> None:
    """Run the attacked server until standard input ends."""
    rpc = RpcTable()
    rpc.register("getblockcount", lambda: 840000, permission="READ_BLOCKCHAIN")
    rpc.register("large", lambda: "x" * 1_000_000, permission="READ_BLOCKCHAIN")
    for number in range(3):
        rpc.register(f"wait{number}", lambda: time.sleep(60), blocking=True, permission="READ_BLOCKCHAIN")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.json"
        users = {
            name: User(name, "readonly", 0x0F, hash_password(name * 2))
            for name in ("newcomer", "reader", *(f"honest{number}" for number in range(_CLIENTS)))
        }
        path.write_text(render_users(UsersFile(users, {})))
        path.chmod(0o600)
        config = Config(users_file=str(path), limit_loopback=not local)
        with WebSocketServer(rpc, config) as server:
            server.gauge("slow", "A gauge that blocks", _block)
            print(json.dumps({"port": server.port}), flush=True)
            sys.stdin.read()
            server.stop(0.5)


def main(arguments: list[str] | None = None) -> int:
    """Run the attacks, and return 1 if one of them succeeded."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--attack"]:
        name, port, seconds = arguments[1:]
        ATTACKS[name](Target(int(port), float(seconds), _ATTACKER))
        return 0
    if arguments[:1] == ["--serve"]:
        _serve("--local" in arguments)
        return 0
    parser = argparse.ArgumentParser(prog="scripts/abuse", description="Attacks a server beside an honest client.")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="default: all of " + ", ".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an attack (default: 3)")
    parser.add_argument("--local", action="store_true", help="without limits by address, as for a local program")
    options = parser.parse_args(arguments)
    wrong = set(options.attacks) - set(ATTACKS)
    if wrong:
        parser.error(f"no such attack: {', '.join(sorted(wrong))}")
    return _report(options.attacks or list(ATTACKS), options.seconds, options.local)


def _report(attacks: list[str], seconds: float, local: bool) -> int:
    print("| attack | p95 ms | worst ms | logins | server CPU | attacker CPU | memory MiB | |")
    print("|---|---|---|---|---|---|---|---|")
    failed = 0
    for attack in attacks:
        command = [sys.executable, "-m", "benchmarks.abuse", "--serve", *(["--local"] if local else [])]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = json.loads(server.stdout.readline())["port"]
            calm = measure(port, server.pid, "", min(2.0, seconds))
            found = measure(port, server.pid, attack, seconds)
        finally:
            server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            server.stdout.close()
        faults = found.faults(calm)
        failed += bool(faults)
        print(
            f"| {attack} | {calm.p95:.2f} → {found.p95:.2f} | {calm.worst:.1f} → {found.worst:.1f} "
            f"| {found.logins} of {found.logins + found.refused} | {found.server_cpu:.2f} | {found.attacker_cpu:.2f} "
            f"| {found.growth:+.0f} | {', '.join(faults)} |",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
