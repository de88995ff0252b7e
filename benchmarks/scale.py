"""How many clients and events one server can have, and what two servers with one Redis add.

    python -m benchmarks.scale idle     memory and processor time of idle connections, by their number
    python -m benchmarks.scale events   events a second to many subscribers, and how late they are
    python -m benchmarks.scale shared   the same with two servers, each on a core, that share a Redis

docs/capacity.md has the outcome. The load generator has the second core, or with two servers what they leave.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .scenarios import CALL, SUBSCRIBE
from .servers import US, Server, Tools, build

_IDLE_SECONDS = 42.0
"""With the default settings a ping comes every 20 s."""


def idle(tools: Tools, counts: Sequence[int]) -> None:
    """Print what connections take that do nothing."""
    print("| connections | bytes each (PSS) | of a core | bytes each in the kernel |\n|---:|---:|---:|---:|")
    for count in counts:
        with Server(US, tools) as server:
            server.load("calls", "-n", "50", "-t", "0.2", "-w", "0")
            before, kernel_before = server.memory(), _kernel_memory()
            with server.hold("-n", str(count), "-q", "16", "-g", CALL):
                time.sleep(1)  # what was freed goes back to the system
                each = (server.memory() - before) / count
                kernel = (_kernel_memory() - kernel_before) / count
                begun = server.cpu_seconds()
                time.sleep(_IDLE_SECONDS)
                share = (server.cpu_seconds() - begun) / _IDLE_SECONDS
        print(f"| {count:,} | {each:,.0f} | {100 * share:.2f} % | {kernel:,.0f} |", flush=True)


def _kernel_memory() -> int:
    """Bytes of the kernel's own objects, of both ends of all connections."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(lines["Slab"].split()[0])


def events(tools: Tools, clients: int, rate: float, seconds: float, store: str = "", servers: int = 1) -> None:
    """Print what one server, or several that share a store, do with so many clients and events a second."""
    with contextlib.ExitStack() as stack:
        started = []
        for number in range(servers):
            words = [f"store={store}"] if store else []
            words += [f"ticks={rate:g}"] if not number else []  # the first one publishes, for all
            started.append(stack.enter_context(Server(US, tools, number, words)))
        core = 1 if servers == 1 else None
        each = ("listen", "-n", str(clients // servers), "-q", "16", "-g", SUBSCRIBE, "-t", str(seconds), "-w", "2")
        with ThreadPoolExecutor(servers) as pool:
            found = list(pool.map(lambda server: server.load(*each, core=core), started))
    for sample in found:
        if "error" in sample:
            print(f"| {clients:,} | {rate:g} | failed: {sample['error']} |")
            return
    delivered = sum(sample["per_s"] for sample in found)
    cpu = " + ".join(f"{100 * sample['server_cpu']:.0f}" for sample in found)
    worst: dict[str, float] = {key: max(sample[key] for sample in found) for key in ("p50_us", "p99_us", "max_us")}
    lag = " | ".join(f"{value / 1000:.1f}" for value in worst.values())
    print(f"| {servers} | {clients:,} | {rate:g} | {delivered:,.0f} | {cpu} % | {lag} |", flush=True)


_HEADING = (
    "| servers | subscribers | events/s | deliveries/s | of a core | late by, p50 ms | p99 ms | most ms |"
    "\n|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    """Run a Redis that keeps nothing on disk; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("idle", "events", "shared"))
    parser.add_argument("--clients", default="", help="numbers, with commas between")
    parser.add_argument("--rates", default="20", help="events a second, with commas between (default: 20)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (default: 5)")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = min(hard - 1000, 50_000)
    defaults = {"idle": f"1000,5000,10000,{most}", "events": "1000,5000,10000", "shared": "10000"}
    counts = [int(text) for text in (options.clients or defaults[options.what]).split(",")]
    rates = [float(text) for text in options.rates.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        tools = build(Path(folder))
        if options.what == "idle":
            idle(tools, counts)
            return 0
        print(_HEADING)
        for count in counts:
            for rate in rates:
                if options.what == "events":
                    events(tools, count, rate, options.seconds)
                else:
                    with _redis() as url:
                        events(tools, count, rate, options.seconds, url, 1)
                        events(tools, count, rate, options.seconds, url, 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
