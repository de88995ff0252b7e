"""Whether a server's memory, files and threads grow with what it does.

    scripts/soak                        every phase, some minutes
    scripts/soak --cycles 200000 posts  one phase, longer
    scripts/soak --short                a few seconds for each

Each phase does the same thing again and again, first to warm up, and prints what the server's process takes then, and
after all cycles. The status is 1 if it has grown by more than `--ceiling` bytes per thousand cycles, or has files or
threads left. For a phase that has failed, tracemalloc says where the memory was allocated, in a run of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import http.client
import json
import logging
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from dilithion_ws import Config, Limits, RpcError, RpcTable, WebSocketServer
from dilithion_ws.client import Client

_CLIENTS = 4
_SETTLE_SECONDS = 3.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


class State(NamedTuple):
    """What a process takes."""

    rss: int
    files: int
    threads: int


class Server:
    """A server in a process of its own.

    Args:
        folder: of the certificate; None for no TLS.
        traced: whether tracemalloc runs in it.
    """

    def __init__(self, folder: Path | None = None, *, traced: bool = False) -> None:
        command = [sys.executable, "-m", "benchmarks.soak", "--serve", str(folder or ""), "1" if traced else ""]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def ask(self, line: str) -> Any:
        """Send a command, and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    @property
    def state(self) -> State:
        """What its process takes now."""
        folder = Path(f"/proc/{self._process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        return State(pages * _PAGE, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def serve(folder: str, traced: str) -> None:
    """Run a server until standard input ends, and answer `snapshot` and `difference`."""
    logging.disable()  # one phase has handlers that raise
    if traced:
        tracemalloc.start(8)
    rpc = RpcTable()
    rpc.register("quick", lambda: 1)
    rpc.register("raises", lambda: 1 // 0)
    files: dict[str, Any] = {"certificate": f"{folder}/cert.pem", "private_key": f"{folder}/key.pem"} if folder else {}
    limits = Limits.from_names(connections=10_000)
    server = WebSocketServer(rpc, Config(limits=limits, **files)).start()
    print(server.port, flush=True)
    before = None
    for line in sys.stdin:
        gc.collect()
        if line.strip() == "snapshot":
            before = tracemalloc.take_snapshot()
            print("null", flush=True)
        else:
            assert before is not None
            found = tracemalloc.take_snapshot().compare_to(before, "traceback")[:10]
            print(json.dumps([[one.size_diff, *one.traceback.format()[-6:]] for one in found]), flush=True)
    server.stop(5.0)


def _url(server: Server, context: ssl.SSLContext | None) -> str:
    return f"{'wss' if context else 'ws'}://localhost:{server.port}"


def _connect(server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    for _ in range(cycles):
        with Client(_url(server, context), ssl_context=context) as client:
            client.call("quick")


def _call(server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    with Client(_url(server, context)) as client:
        for _ in range(cycles):
            client.call("quick")


def _raise(server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    with Client(_url(server, context)) as client:
        for number in range(cycles):
            with contextlib.suppress(RpcError):
                client.call("raises" if number % 2 else "unknown")


def _subscribe(server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    with Client(_url(server, context)) as client:
        for number in range(cycles):
            wanted = {"txid": f"{threading.get_ident()}-{number}"}
            reply = client.call("subscribe", topic="mempool", filter=wanted)
            client.call("unsubscribe", reply["subscription"])


def _post(server: Server, context: ssl.SSLContext | None, cycles: int, *, keeps: bool = True) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"quick"}'
    headers = {"Content-Type": "application/json", **({} if keeps else {"Connection": "close"})}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(cycles):
        connection.request("POST", "/", body, headers)
        assert connection.getresponse().read()
        if not keeps:
            connection.close()
    connection.close()


def _post_once(server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    _post(server, context, cycles, keeps=False)


class Phase(NamedTuple):
    """What is done again and again.

    Attributes:
        run: does so many cycles.
        share: of the cycles that are asked for.
        uses_tls: whether the server has a certificate.
    """

    run: Callable[[Server, ssl.SSLContext | None, int], None]
    share: float = 1.0
    uses_tls: bool = False


PHASES = {
    "connections": Phase(_connect, 0.5),
    "tls": Phase(_connect, 0.5, uses_tls=True),
    "calls": Phase(_call),
    "errors": Phase(_raise),
    "subscriptions": Phase(_subscribe),
    "posts": Phase(_post),
    "posts-close": Phase(_post_once, 0.5),
}


def _repeat(phase: Phase, server: Server, context: ssl.SSLContext | None, cycles: int) -> None:
    """Do some cycles, from several clients at once, and wait until the server has forgotten the last ones."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            phase.run(server, context, cycles // _CLIENTS)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    time.sleep(_SETTLE_SECONDS)


def _with_certificate(folder: Path) -> ssl.SSLContext:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)
    return ssl.create_default_context(cafile=str(folder / "cert.pem"))


def measure(name: str, cycles: int, ceiling: float) -> bool:
    """Run a phase, and print a line about it. Return whether it has kept to the ceiling."""
    phase = PHASES[name]
    cycles = max(_CLIENTS, int(cycles * phase.share))
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text) if phase.uses_tls else None
        context = _with_certificate(folder) if folder is not None else None
        server = Server(folder)
        try:
            _repeat(phase, server, context, cycles // 2)
            before = server.state
            _repeat(phase, server, context, cycles)
            after = server.state
        finally:
            server.stop()
        growth = (after.rss - before.rss) / cycles * 1000
        is_good = growth <= ceiling and after.files <= before.files and after.threads <= before.threads
        print(
            f"{name:14} {cycles:9,} {before.rss / 1e6:8.1f} {after.rss / 1e6:8.1f} {growth / 1000:8.1f} "
            f"{before.files:4} {after.files:4} {before.threads:4} {after.threads:4}  {'held' if is_good else 'FAILED'}",
            flush=True,
        )
        if not is_good:
            _explain(phase, folder, context, cycles)
        return is_good


def _explain(phase: Phase, folder: Path | None, context: ssl.SSLContext | None, cycles: int) -> None:
    """Run a phase again, traced, and print where the memory was allocated that is still there."""
    server = Server(folder, traced=True)
    try:
        _repeat(phase, server, context, cycles // 2)
        server.ask("snapshot")
        _repeat(phase, server, context, cycles)
        for size, *lines in server.ask("difference"):
            print(f"    {size / 1000:+.1f} KB", *(f"        {line}" for line in lines), sep="\n")
    finally:
        server.stop()


def main() -> int:
    """Run what the command line says. Return the exit status."""
    if sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:4])
        return 0
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=f"which ones: {', '.join(PHASES)}; default: all")
    parser.add_argument("--cycles", type=int, default=40_000, help="of a phase, after half as many to warm up (40000)")
    parser.add_argument("--ceiling", type=float, default=30_000, help="bytes per thousand cycles (30000)")
    parser.add_argument("--short", action="store_true", help="2,000 cycles, and a ceiling of 500 KB per thousand")
    options = parser.parse_args()
    if unknown := set(options.phases) - set(PHASES):
        parser.error(f"there is no phase {sorted(unknown)[0]}")
    cycles, ceiling = (2000, 500_000.0) if options.short else (options.cycles, options.ceiling)
    print(f"{'phase':14} {'cycles':>9} {'MB':>8} {'MB then':>8} {'KB/1000':>8} {'files':>9} {'threads':>9}")
    verdicts = [measure(name, cycles, ceiling) for name in options.phases or PHASES]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
