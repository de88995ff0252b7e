"""The processes of a scenario: hosts and swarms, and what is asked of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Host", "Process", "SwarmProcess", "free_port", "host", "swarm", "told", "wait_for"]


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until a condition is true, and return its value. Raise AssertionError after some seconds."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.05)
    return value


class Process:
    """A program that is asked by lines and answers by lines of JSON.

    Args:
        command: what to run.
        options: of `subprocess.Popen`.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)

    @property
    def pid(self) -> int:
        """Of the program."""
        return self.popen.pid

    def tell(self, line: str) -> None:
        """Send a line that is not answered."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def read(self) -> Any:
        """Read the next answer."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, f"the program has ended ({self.popen.poll()})"
        return json.loads(line)

    def ask(self, line: str) -> Any:
        """Send a line, and return the answer."""
        self.tell(line)
        return self.read()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.popen.kill()
        self.popen.wait(10)
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def close(self, seconds: float = 20.0) -> int:
        """End its input, so that it stops in order. Return its status."""
        with contextlib.suppress(OSError):
            assert self.popen.stdin is not None
            self.popen.stdin.close()
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {seconds:g} s") from None

    def pause(self, seconds: float) -> None:
        """Stop it for some seconds (SIGSTOP)."""
        self.popen.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.popen.send_signal(signal.SIGCONT)


class Host(Process):
    """A server that publishes; see `host.py`.

    Args:
        settings: its settings, as members of JSON.
        before: what the command begins with.
        sock: a listening socket that it gets, as from systemd.
        environment: variables in addition to those of this process.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        before: tuple[str, ...] = (),
        sock: socket.socket | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        command = [*before, sys.executable, "-m", "benchmarks.chaos.host", json.dumps(settings)]
        options: dict[str, Any] = {"env": {**os.environ, **(environment or {})}}
        if sock is not None:
            command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *command]
            options |= {"preexec_fn": lambda: _as_descriptor_3(sock), "close_fds": False}
        super().__init__(command, **options)
        self.port = int(self.read())

    @property
    def status(self) -> dict[str, Any]:
        """What the server knows about itself."""
        found: dict[str, Any] = self.ask("status")
        return found


class SwarmProcess(Process):
    """Subscribers that check what they get; see `swarm.py`."""

    def __init__(self, port: int, count: int, **options: Any) -> None:
        settings = {"port": port, "count": count, **options}
        super().__init__([sys.executable, "-m", "benchmarks.chaos.swarm", json.dumps(settings)])
        self.count = count

    @property
    def report(self) -> dict[str, Any]:
        """What they have seen so far. Raise AssertionError if it was wrong."""
        found: dict[str, Any] = self.ask("")
        assert not found.get("faults"), f"{found['faults']} faults: {found['fault']}"
        return found

    def wait_until_all_are_at(self, seq: int, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until every subscriber has got the event with this number, or a later one. Return the report."""

        def all_are_there() -> dict[str, Any] | None:
            found = self.report
            return found if found["subscribed"] == self.count and found["lowest"] >= seq else None

        found: dict[str, Any] = wait_for(all_are_there, seconds, f"all {self.count} subscribers at event {seq}")
        return found


def told(report: dict[str, Any]) -> int:
    """Return how often the server has said that events are missing."""
    return sum(count for name, count in report.items() if name.startswith("told: "))


def _as_descriptor_3(sock: socket.socket) -> None:
    os.dup2(sock.fileno(), 3)
    os.set_inheritable(3, True)


@contextlib.contextmanager
def host(**settings: Any) -> Iterator[Host]:
    """Run a host, and end it whatever happens."""
    options = {name: settings.pop(name) for name in ("before", "sock", "environment") if name in settings}
    process = Host(settings, **options)
    try:
        yield process
    finally:
        process.popen.send_signal(signal.SIGCONT)
        process.kill()


@contextlib.contextmanager
def swarm(port: int, count: int, **options: Any) -> Iterator[SwarmProcess]:
    """Run subscribers, and end them whatever happens. The options are those of `Swarm`."""
    process = SwarmProcess(port, count, **options)
    try:
        yield process
    finally:
        process.kill()
