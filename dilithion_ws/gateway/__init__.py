"""A WebSocket server for a node that has only HTTP: `dilithion-ws gateway`, or embed `Gateway` in your program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .gateway_config import GatewayConfig

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Gateway", "GatewayConfig"]


def __getattr__(name: str) -> Any:
    """Import `Gateway` on first use, since it needs the extra `gateway`, and the help of the command line does not."""
    if name == "Gateway":
        from .gateway import Gateway

        return Gateway
    raise AttributeError(name)
