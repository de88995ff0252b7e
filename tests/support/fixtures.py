"""Types of the fixtures that make things."""

from __future__ import annotations

from collections.abc import Callable

from dilithion_ws import WebSocketServer

from . import RawClient

__all__ = ["ClientFactory", "Run", "ServerFactory"]

ServerFactory = Callable[..., WebSocketServer]
"""Starts a server; keyword arguments that name a limit set it, the others go to the server."""

ClientFactory = Callable[..., RawClient]
"""Connects a raw client to a server."""


Run = Callable[..., "tuple[int, str, str]"]
"""Runs a command, and returns its exit status, its output and its errors."""
