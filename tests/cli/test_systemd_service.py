"""A server as a service of systemd: sockets that it is given, and what it reports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dilithion_ws.client import Client

from ..support import RawClient, wait_for
from ..support.commands import ROOT
from ..support.standin import StandIn

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate (apt-get install systemd)"
)
SERVE = (sys.executable, "-m", "dilithion_ws", "serve", "--dev", "--block-interval", "60")


@contextmanager
def activated(sock: socket.socket, command: Sequence[str] = SERVE, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A server that was given a listening socket as descriptor 3."""

    def as_descriptor_3() -> None:
        os.dup2(sock.fileno(), 3)
        os.set_inheritable(3, True)

    process = subprocess.Popen(
        ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"', "sh", *command],
        preexec_fn=as_descriptor_3,
        close_fds=False,  # the others are not inheritable
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def notify_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(20)
        listener.bind(str(tmp_path / "notify"))
        yield listener


@pytest.mark.parametrize("command", ["serve", "gateway"])
def test_it_reports_when_it_is_ready_that_it_lives_and_when_it_stops(
    notify_socket: socket.socket, standin: StandIn, command: str
) -> None:
    address = str(notify_socket.getsockname())
    gateway = (sys.executable, "-m", "dilithion_ws", "gateway", "--upstream", standin.url)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        own = SERVE if command == "serve" else gateway
        with activated(sock, own, NOTIFY_SOCKET=address, WATCHDOG_USEC="400000"):
            assert notify_socket.recv(200).decode().splitlines()[0] == "READY=1"
            assert [notify_socket.recv(200) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        received = notify_socket.recv(200)
        while received == b"WATCHDOG=1":
            received = notify_socket.recv(200)
        assert received == b"STOPPING=1"


def test_a_server_that_hangs_says_no_longer_that_it_lives(notify_socket: socket.socket) -> None:
    """A stopped process stands for one that hangs: systemd hears nothing, and restarts it."""
    address, period = str(notify_socket.getsockname()), 0.4
    watchdog = str(int(period * 1e6))
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        activated(sock, NOTIFY_SOCKET=address, WATCHDOG_USEC=watchdog) as process,
    ):
        while notify_socket.recv(200) != b"WATCHDOG=1":
            pass
        process.send_signal(signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            notify_socket.setblocking(False)
            with suppress(BlockingIOError):
                while notify_socket.recv(200):  # what it said before
                    pass
            notify_socket.settimeout(2 * period)
            with pytest.raises(TimeoutError):
                notify_socket.recv(200)
        finally:
            process.send_signal(signal.SIGCONT)
        notify_socket.settimeout(20)
        assert notify_socket.recv(200) == b"WATCHDOG=1"


def test_a_restart_refuses_no_client() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        port = sock.getsockname()[1]
        outcomes: list[object] = []
        finished = threading.Event()

        def call_again_and_again() -> None:
            while not finished.is_set():
                try:
                    with Client(f"ws://127.0.0.1:{port}", timeout=20, connect_timeout=20) as client:
                        outcomes.append(client.call("getblockcount"))
                except Exception as error:
                    outcomes.append(error)

        with activated(sock) as first:
            caller = threading.Thread(target=call_again_and_again)
            caller.start()
            try:
                wait_for(lambda: len(outcomes) > 5, 20)
                first.terminate()
                first.wait(20)
                with activated(sock):
                    seen = len(outcomes)
                    wait_for(lambda: len(outcomes) > seen + 5, 20)
                    finished.set()
                    caller.join(30)
            finally:
                finished.set()
    lost = [outcome for outcome in outcomes if not isinstance(outcome, int)]
    # One connection may be open at the moment of the stop. It is closed with 1001, or with 503 before its upgrade.
    assert len(lost) <= 1
    assert not any("refused" in str(error).lower() for error in lost)


@needs_systemd
def test_systemd_itself_activates_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--", *SERVE],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ},
    )
    try:

        def answers() -> bool:
            try:
                with RawClient(port, timeout=20) as client:
                    return "result" in client.call("getblockcount")
            except ConnectionRefusedError:
                return False

        wait_for(answers, 20)
    finally:
        process.terminate()
        process.wait(20)
