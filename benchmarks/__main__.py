"""Compares this server with others on this machine; see `scripts/bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from .report import Samples, plot, table
from .scenarios import SCENARIOS, visits
from .servers import PEERS, build


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Compares dilithion_ws with other servers here.")
    parser.add_argument("--quick", action="store_true", help="the main scenarios, one short round (a minute)")
    parser.add_argument("--rounds", type=int, default=3, help="of those that have a target (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a timed sample (default: 0.5)")
    parser.add_argument("--only", default="", help="scenarios, with commas between: " + ", ".join(SCENARIOS))
    parser.add_argument("--peers", default="", help="with commas between: " + ", ".join(PEERS))
    parser.add_argument("--without-users", action="store_true", help="our server checks no more than the others")
    parser.add_argument("--samples", type=Path, help="a file to which every sample is added, as a line of JSON")
    parser.add_argument("--plot", type=Path, help="a PNG to draw")
    options = parser.parse_args()
    wrong = set(filter(None, options.only.split(","))) - set(SCENARIOS)
    if wrong:
        parser.error(f"no such scenario: {', '.join(sorted(wrong))}")
    return options


def main() -> int:
    options = _options()
    chosen = [name for name in options.only.split(",") if name] or [
        name for name, scenario in SCENARIOS.items() if scenario.quick or not options.quick
    ]
    peers = [name for name in options.peers.split(",") if name]
    if options.quick:
        options.rounds, options.seconds = 1, 0.4
        peers = peers or ["picows", "websockets asyncio", "socketify", "aiohttp"]
    samples: Samples = {}
    plan = {name: visits(SCENARIOS[name], options.rounds, peers) for name in chosen}
    total, done, begun = sum(map(len, plan.values())), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tools = build(Path(folder), ("open",) if options.without_users else ())
        for name, turns in plan.items():
            for number, server in turns:
                done += 1
                if sys.stderr.isatty():
                    spent = time.monotonic() - begun
                    print(f"\r\x1b[K[{done}/{total}] {spent:.0f} s  {name}: {server}", end="", file=sys.stderr)
                try:
                    sample = SCENARIOS[name].take(server, tools, options.seconds)
                except (RuntimeError, OSError) as problem:
                    sample = {"error": str(problem).replace("\n", " ")}
                samples.setdefault(name, []).append((number, server, sample))
                if options.samples:
                    with options.samples.open("a") as file:
                        print(json.dumps({"scenario": name, "round": number, "server": server, **sample}), file=file)
            if sys.stderr.isatty():
                print("\r\x1b[K", end="", file=sys.stderr)
            print(table(name, samples[name]), flush=True)
    if options.plot:
        plot(samples, options.plot)
        print(f"Drawn: {options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
