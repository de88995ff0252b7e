"""Start a server as the reference does: by one call that never raises."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from .config.config import Config
from .rpc.table import RpcTable
from .server import WebSocketServer

__all__ = ["initialize_websocket"]

logger = logging.getLogger("dilithion_ws")


def initialize_websocket(
    rpc: RpcTable, port: int, host: str | None = None, config: Config | None = None, **options: Any
) -> WebSocketServer | None:
    """Start a server as the reference's InitializeWebSocket does: it never raises, so the node continues without it.

    Args:
        rpc: the methods.
        port: the port to listen on; 0 means that WebSocket is switched off, which is not an error.
        host: the address to listen on; default: that of `config`.
        config: everything else, such as users and TLS; default: `Config()`.
        options: further arguments of `WebSocketServer`.

    Returns:
        The running server; None if it is switched off or could not be started. The log says which.
    """
    if port == 0:
        logger.info("WebSocket is switched off (rpcwebsocketport=0)")
        return None
    try:
        config = config or Config()
        config = msgspec.structs.replace(config, host=host or config.host, port=port)
        return WebSocketServer(rpc, config, **options).start()
    except Exception as error:
        logger.error("WebSocket could not be started: %s; the node goes on without", error)
        return None
