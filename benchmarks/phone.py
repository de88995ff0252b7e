"""Clients on a link like a phone's: how late events are, when a dead link is noticed, and when events go on.

    sudo python -m benchmarks.phone [--delay 0.15] [--loss 0.05] [--calm 60] [--dead 120]

The server publishes a tick, with the time, four times a second. The clients of this project follow the ticks: first on
the link as it is, then packets vanish for a while. No event may be missing or come twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.client import AsyncClient, Client

from .lossy_link import LossyLink

_TICK = 0.25
_AFTER = 60.0
_ROOT = Path(__file__).resolve().parent.parent
_JAVASCRIPT = """
const [client, url, ws] = process.argv.slice(1);
const { Client } = await import(client);
const { WebSocket } = await import(ws);
const now = () => Number(process.hrtime.bigint()) / 1e9;
const say = (line) => console.log(JSON.stringify({ at: now(), ...line }));
const one = new Client(url, { WebSocket });
one.addEventListener('state', () => say({ connected: one.state === 'open' }));
for await (const event of one.subscribe('ticks')) say({ tick: event.data.number, sent: event.data.sent });
"""


class Report(NamedTuple):
    """What one client has seen.

    Attributes:
        name: of the client.
        lags: seconds from publishing to receiving, on the link as it is, in ascending order.
        noticed: seconds after which the dead link was noticed; None if it never was.
        resumed: seconds after its end until the next event came.
        ticks: the number of events; all there is, in order and once.
    """

    name: str
    lags: list[float]
    noticed: float | None
    resumed: float
    ticks: int


def _serve() -> None:
    """Publish ticks until standard input ends."""
    server = WebSocketServer(RpcTable(), Config(host="0.0.0.0", port=8333, insecure=True))
    server.topic("ticks", permission="READ_BLOCKCHAIN")
    server.start()
    stopping = threading.Event()

    def tick() -> None:
        number = 0
        while not stopping.wait(_TICK):
            number += 1
            server.publish("ticks", {"number": number, "sent": time.monotonic()})

    thread = threading.Thread(target=tick)
    thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stopping.set()
    thread.join()
    server.stop(1.0)


def _say(**line: Any) -> None:
    print(json.dumps({"at": time.monotonic(), **line}), flush=True)


def _watch(client: Client | AsyncClient) -> None:
    """Report each change of the connection, in a thread."""

    def watch() -> None:
        before = False
        while True:
            if client.is_connected != before:
                before = not before
                _say(connected=before)
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()


def _follow(url: str) -> None:
    with Client(url) as client:
        _watch(client)
        for event in client.subscribe("ticks"):
            _say(tick=event.data["number"], sent=float(event.data["sent"]))


async def _follow_async(url: str) -> None:
    async with AsyncClient(url) as client:
        _watch(client)
        async for event in await client.subscribe("ticks"):
            _say(tick=event.data["number"], sent=float(event.data["sent"]))


def _commands(url: str, modules: Path) -> dict[str, list[str]]:
    program = [sys.executable, "-m", "benchmarks.phone"]
    script = ["node", "--input-type=module", "-e", _JAVASCRIPT, str(_ROOT / "javascript" / "client.js"), url]
    return {
        "JavaScript (Node.js)": [*script, str(modules / "ws" / "wrapper.mjs")],
        "Python, threads": [*program, "--follow", url],
        "Python, asyncio": [*program, "--follow-async", url],
    }


def _report(name: str, lines: list[dict[str, Any]], went_down: float, came_up: float) -> Report:
    ticks = [line for line in lines if "tick" in line]
    numbers = [line["tick"] for line in ticks]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{name} missed or repeated events"
    lost = [line["at"] - went_down for line in lines if line.get("connected") is False and line["at"] > went_down]
    lags = sorted(line["at"] - line["sent"] for line in ticks if line["at"] < went_down)
    return Report(
        name,
        lags,
        next((seconds for seconds in lost if seconds < came_up - went_down), None),
        next(line["at"] - came_up for line in ticks if line["at"] > came_up),
        len(ticks),
    )


def run(
    delay: float, loss: float, calm: float, dead: float, modules: Path, *, jitter: float = 0.0, rate: float = 0.0
) -> list[Report]:
    """Run the clients and return a report of each.

    Args:
        delay, loss: of the link, see `LossyLink`.
        calm: seconds before the link dies.
        dead: seconds for which it is dead.
        modules: the folder with Node's packages.
        jitter, rate: of the link.
    """
    with LossyLink(delay, loss, jitter, rate=rate) as link, contextlib.ExitStack() as processes:
        serve = [*link.far, sys.executable, "-m", "benchmarks.phone", "--serve"]
        server = processes.enter_context(
            subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        )
        processes.callback(server.kill)
        assert server.stdout is not None
        server.stdout.readline()
        clients = {
            name: processes.enter_context(
                subprocess.Popen([*link.near, *command], stdout=subprocess.PIPE, text=True, cwd=_ROOT)
            )
            for name, command in _commands(f"ws://{link.far_address}:8333", modules).items()
        }
        output: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}

        def read(name: str, process: subprocess.Popen[str]) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                output[name].append(json.loads(line))

        for process in clients.values():
            processes.callback(process.kill)
        readers = [threading.Thread(target=read, args=item) for item in clients.items()]
        for reader in readers:
            reader.start()
        time.sleep(calm)
        went_down = time.monotonic()
        link.is_down = True
        time.sleep(dead)
        link.is_down = False
        came_up = time.monotonic()
        while not all(
            any("tick" in line and line["at"] > came_up for line in list(lines)) for lines in output.values()
        ):
            if time.monotonic() > came_up + _AFTER:
                break
            time.sleep(0.1)
        time.sleep(1.0)  # so that what came late is looked at as well
        server.communicate("")
        for process in clients.values():
            process.kill()
        for reader in readers:
            reader.join()
    return [_report(name, lines, went_down, came_up) for name, lines in output.items()]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--delay", type=float, default=0.15, help="seconds for each packet, in each direction")
    parser.add_argument("--loss", type=float, default=0.05, help="share of the packets that are lost")
    parser.add_argument("--calm", type=float, default=60.0, help="seconds before the link dies")
    parser.add_argument("--dead", type=float, default=120.0, help="seconds for which it is dead")
    parser.add_argument("--modules", type=Path, default=_ROOT / ".cache" / "node_modules", help="Node's packages")
    for option in ("--follow", "--follow-async"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve()
    elif options.follow:
        _follow(options.follow)
    elif options.follow_async:
        asyncio.run(_follow_async(options.follow_async))
    else:
        print("| client | lag, median | p95 | most | noticed after | events again after | events |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for report in run(options.delay, options.loss, options.calm, options.dead, options.modules):
            lags = report.lags
            late = " | ".join(f"{lags[int(share * (len(lags) - 1))]:.2f} s" for share in (0.5, 0.95, 1.0))
            noticed = "not" if report.noticed is None else f"{report.noticed:.0f} s"
            print(f"| {report.name} | {late} | {noticed} | {report.resumed:.1f} s | {report.ticks} |")


if __name__ == "__main__":
    main()
