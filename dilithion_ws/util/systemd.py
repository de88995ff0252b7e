"""What a service says to systemd and gets from it: sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from ..errors import ConfigError

__all__ = ["sd_listen_sockets", "sd_notify", "sd_watchdog_seconds"]

_FIRST_FD = 3
"""Descriptors from this one on are those of the socket unit."""

Environment = MutableMapping[str, str]


def sd_listen_sockets(environment: Environment = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd has opened for this process, for `WebSocketServer(sockets=...)`.

    They are returned once: the variables are removed, so that a child process does not take them for its own.

    Returns:
        The sockets, none if the service was not started by a socket unit.

    Raises:
        ConfigError: a descriptor is not a socket.
    """
    is_ours = environment.get("LISTEN_PID") == str(os.getpid())
    text = environment.get("LISTEN_FDS", "")
    count = int(text) if is_ours and text.isdecimal() and len(text) < 4 else 0
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    sockets = []
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        try:
            os.set_inheritable(fd, False)
            sockets.append(socket.socket(fileno=fd))
        except OSError as error:
            for sock in sockets:
                sock.close()
            raise ConfigError(f"LISTEN_FDS is {count}, and descriptor {fd} is not a socket: {error.strerror}") from None
    return sockets


def sd_notify(state: str, environment: Environment = os.environ) -> bool:
    """Tell systemd a state of this service, such as `READY=1`, `STOPPING=1` or `WATCHDOG=1`.

    Returns:
        True if systemd received it; False if the service was not started by systemd, or systemd does not listen.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def sd_watchdog_seconds(environment: Environment = os.environ) -> float:
    """Return after how many seconds without `WATCHDOG=1` systemd restarts this service, or 0 if it does not."""
    text = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", str(os.getpid()))
    return int(text) / 1e6 if text.isdecimal() and pid == str(os.getpid()) else 0.0
