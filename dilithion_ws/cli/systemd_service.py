"""A server as a service: it tells systemd when it is ready, when it stops, and regularly that it still answers."""

from __future__ import annotations

import logging

from ..server import WebSocketServer
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.systemd import sd_notify, sd_watchdog_seconds

__all__ = ["SystemdService"]

logger = logging.getLogger("dilithion_ws")

_JOIN_SECONDS = 5.0


class SystemdService:
    """Tells systemd about a server; elsewhere it does nothing. Use it in a `with` statement while the server runs.

    Args:
        server: a running server.
    """

    def __init__(self, server: WebSocketServer) -> None:
        self._server = server
        self._timeout = sd_watchdog_seconds()
        self._thread: RepeatingThread | None = None

    def __enter__(self) -> SystemdService:
        sd_notify(f"READY=1\nSTATUS=Listening on {self._server.url}")
        if self._timeout:
            self._thread = RepeatingThread("dilithion-ws-service", self._step, logger)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping()
        if self._thread is not None:
            self._thread.stop(_JOIN_SECONDS)

    def stopping(self) -> None:
        """Tell systemd that the server has begun to stop."""
        sd_notify("STOPPING=1")

    def _step(self, is_woken: bool) -> Pause:
        """Tell systemd that the server lives, if it does: a server whose leading thread hangs is restarted."""
        if self._server.is_responsive(self._timeout / 4):
            sd_notify("WATCHDOG=1")
        return Pause(self._timeout / 4, self._timeout / 4)
