"""Fixtures: stand-ins for nodes, and gateways in front of them, that are stopped at the end of a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws.gateway import Gateway, GatewayConfig

from ..support.configs import take_config
from ..support.gateways import GatewayFactory
from ..support.litecoin import Litecoin


@pytest.fixture
def gateways() -> Iterator[GatewayFactory]:
    """Starts gateways; keyword arguments go to the gateway's settings, the server's, or its limits, by their names."""
    started: list[Gateway] = []

    def start(url: str, **options: Any) -> Gateway:
        options.setdefault("insecure", True)  # most have an account, and no users
        server = take_config(options)
        options.setdefault("poll_interval", 0.05)
        gateway = Gateway(GatewayConfig(upstream=url, **options), server)
        started.append(gateway.start())
        return gateway

    yield start
    for gateway in started:
        gateway.stop(2.0)


@pytest.fixture
def litecoin(tmp_path: Path) -> Iterator[Litecoin]:
    folder = tmp_path / "litecoin"
    folder.mkdir()
    node = Litecoin(folder)
    yield node
    node.kill()
