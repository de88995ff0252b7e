"""The servers that are compared: how each is started, pinned, watched and ended."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

HERE = Path(__file__).parent
US = "dilithion_ws"
BARE = "bare loop in C"
PEERS = {
    "websockets asyncio": "websockets_asyncio.py",
    "websockets threads": "websockets_threads.py",
    "aiohttp": "aiohttp_peer.py",
    "tornado": "tornado_peer.py",
    "simple-websocket": "simple_websocket_peer.py",
    "picows": "picows_peer.py",
    "socketify": "socketify_peer.py",
    "Node ws": "ws.js",
}
LOGIN = "Authorization: Basic " + base64.b64encode(b"bench:bench-password").decode()
READY_WITHIN = 20.0


class Tools(NamedTuple):
    """What is made before the first run. `our_options` are further words for the command line of our own server."""

    load: Path
    bare: Path
    certificate: Path
    key: Path
    node_modules: Path | None
    our_options: tuple[str, ...] = ()


def build(folder: Path, our_options: tuple[str, ...] = ()) -> Tools:
    """Compile the load generator and the bare loop, and make a certificate."""
    for name in ("load", "bare"):
        source = str(HERE / f"{name}.c")
        subprocess.run(["cc", "-O2", "-o", str(folder / name), source, "-lssl", "-lcrypto"], check=True)
    import trustme

    certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)  # the server takes no other
    modules = HERE.parent / ".cache" / "node_modules"
    return Tools(
        folder / "load",
        folder / "bare",
        folder / "certificate.pem",
        folder / "key.pem",
        modules if (modules / "ws").exists() and shutil.which("node") else None,
        our_options,
    )


class Server:
    """One server process, for the length of a `with`.

    Args:
        name: one of `PEERS`, `US` or `BARE`.
        tools: what was built.
        core: the processor that it may use; None for all.
        options: more words for its command line: `deflate` or `tls`, and for ours `open`: without users.
    """

    def __init__(self, name: str, tools: Tools, core: int | None = 0, options: Sequence[str] = ()) -> None:
        self.name, self.tools = name, tools
        if name == US:
            options = [*options, *tools.our_options]
        self.port = _free_port()
        self.tls = "tls" in options
        words = [str(self.port)]
        self.logs_in = name == US and "open" not in options
        certificate = [str(tools.certificate), str(tools.key)] * self.tls
        if name == BARE:
            command = [str(tools.bare), *words, *certificate]
        elif name == US:
            words += [",".join(certificate) if option == "tls" else option for option in options]
            command = [sys.executable, str(HERE / "peers" / "dilithion.py"), *words]
        else:
            program = PEERS[name]
            runner = "node" if program.endswith(".js") else sys.executable
            command = [runner, str(HERE / "peers" / program), *words, *certificate]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HERE.parent)}
        if tools.node_modules is not None:
            environment["NODE_PATH"] = str(tools.node_modules)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the `with`
        self._process = subprocess.Popen(
            command if core is None else ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=environment,
        )

    def __enter__(self) -> Server:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            if "error" not in self.load("calls", "-t", "0.02", "-w", "0"):
                return self
            time.sleep(0.05)
        self._end()
        self._log.seek(0)
        raise RuntimeError(f"{self.name} does not answer: {self._log.read().decode(errors='replace')[-500:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._log.close()

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self.name != US:
            self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _command(self, words: Sequence[str], core: int | None) -> list[str]:
        command = [str(self.tools.load), *words, "-p", str(self.port), "-P", str(self._process.pid)]
        if self.logs_in:
            command += ["-H", LOGIN]
        if self.tls:
            command.append("-T")
        return command if core is None else ["taskset", "-c", str(core), *command]

    def load(self, *words: str, core: int | None = 1) -> dict[str, Any]:
        """Runs the load generator and returns what it found; `error` in it says why it could not."""
        done = subprocess.run(self._command(words, core), capture_output=True, text=True, check=False)
        line = done.stdout.strip().rpartition("\n")[2]
        return read_sample(line) if line else {"error": f"the load generator died: {done.stderr[-200:]}"}

    def hold(self, *words: str) -> Holding:
        """Keeps connections open, for the length of a `with`."""
        return Holding(self._command(["hold", *words], 1))

    def memory(self) -> int:
        """Bytes of memory that are this process's own or its share of what is shared (PSS)."""
        text = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Holding:
    """Open connections that do nothing."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Holding:
        assert self._process.stdout is not None
        line = json.loads(self._process.stdout.readline() or "{}")
        if "open" not in line:
            self._process.wait()
            raise RuntimeError(str(line.get("error", "the load generator died")))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)


def read_sample(line: str) -> dict[str, Any]:
    """What the load generator has found. A single refused connection, or answer that is an error, is a failure."""
    sample: dict[str, Any] = json.loads(line)
    if sample.get("wrong") or sample.get("failed"):
        wrong, failed = sample["wrong"], sample["failed"]
        sample["error"] = f"{wrong} answers were errors, {failed} connections failed {sample['failure']}".strip()
    return sample


def _free_port() -> int:
    """Below the range from which the clients' ports are taken."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
