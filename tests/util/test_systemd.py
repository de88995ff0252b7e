"""The protocols of systemd, without systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dilithion_ws import sd_listen_sockets, sd_notify, sd_watchdog_seconds


def test_without_systemd_there_is_nothing() -> None:
    assert sd_listen_sockets({}) == []
    assert sd_notify("READY=1", {}) is False
    assert sd_watchdog_seconds({}) == 0


@pytest.mark.parametrize("pid", ["1", "", "x"])
def test_sockets_of_another_process_are_not_taken(pid: str) -> None:
    environment = {"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "OTHER": "1"}
    assert sd_listen_sockets(environment) == []
    assert environment == {"OTHER": "1"}


def test_nonsense_is_no_socket() -> None:
    assert sd_listen_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}) == []


def test_a_descriptor_that_is_no_socket_is_an_error() -> None:
    script = "from dilithion_ws import sd_listen_sockets; sd_listen_sockets()"
    command = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null', "sh", sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "ConfigError: LISTEN_FDS is 1, and descriptor 3 is not a socket" in result.stderr


def test_states_are_sent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind(str(tmp_path / "notify"))
        assert sd_notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(100) == b"READY=1"


def test_an_abstract_address() -> None:
    name = f"dilithion-ws-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        listener.bind("\0" + name)
        assert sd_notify("STOPPING=1", {"NOTIFY_SOCKET": "@" + name})
        assert listener.recv(100) == b"STOPPING=1"


def test_a_systemd_that_does_not_listen_is_no_error(tmp_path: Path) -> None:
    assert sd_notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")}) is False


def test_the_watchdog_is_asked_for_by_microseconds() -> None:
    assert sd_watchdog_seconds({"WATCHDOG_USEC": "1500000"}) == 1.5
    assert sd_watchdog_seconds({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}) == 0
