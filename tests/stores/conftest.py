"""Servers with a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dilithion_ws import RpcTable, WebSocketServer

from ..support import wait_for
from ..support.configs import make_config
from ..support.fixtures import ServerFactory


@pytest.fixture
def serve(rpc: RpcTable) -> Iterator[ServerFactory]:
    servers: list[WebSocketServer] = []

    def serve(store: str, port: int = 0, **options: Any) -> WebSocketServer:
        config = make_config(event_store=store, port=port, connections=5000, **options)
        server = WebSocketServer(rpc, config)
        server.topic("t")
        servers.append(server.start())
        wait_for(lambda: not any(topic.availability.value for topic in server.events.topics()))
        return server

    yield serve
    for server in servers:
        server.stop(2)
