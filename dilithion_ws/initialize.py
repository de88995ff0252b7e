"""The server as the reference starts it: one call, which never raises."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from .config.config import Config
from .rpc.table import RpcTable
from .server import WebSocketServer

__all__ = ["initialize_websocket"]

logger = logging.getLogger("dilithion_ws")


def initialize_websocket(
    rpc: RpcTable, port: int, host: str | None = None, config: Config | None = None, **options: Any
) -> WebSocketServer | None:
    """Starts a server as the reference's InitializeWebSocket does: it never raises, so that the node goes on without.

    Args:
        rpc: the methods.
        port: where to listen; 0 means that WebSocket is switched off, which is no error.
        host: the address to listen on; default: the configuration's.
        config: everything else, such as users and TLS; default: `Config()`.
        options: further arguments of `WebSocketServer`.

    Returns:
        The running server; None where it is switched off or could not start. The log tells which.
    """
    if port == 0:
        logger.info("WebSocket is switched off (rpcwebsocketport=0)")
        return None
    try:
        config = config or Config()
        config = replace(config, host=host or config.host, port=port)
        return WebSocketServer(rpc, config, **options).start()
    except Exception as error:
        logger.error("WebSocket could not be started: %s; the node goes on without", error)
        return None
