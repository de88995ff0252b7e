"""Fixtures: stand-ins for nodes, and gateways in front of them, that are stopped at the end of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, Limits
from dilithion_ws.gateway import Gateway, GatewayConfig

from .litecoin import Litecoin
from .standin import StandIn

GatewayFactory = Callable[..., Gateway]


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A Dilithion node that asks for no password."""
    node = StandIn()
    yield node
    node.stop()


@pytest.fixture
def gateways() -> Iterator[GatewayFactory]:
    """Starts gateways; keyword arguments go to the gateway's settings, the server's, or its limits, by their names."""
    started: list[Gateway] = []

    def start(url: str, **options: Any) -> Gateway:
        limits = {name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__}
        server = {name: options.pop(name) for name in list(options) if name in Config.__dataclass_fields__}
        options.setdefault("poll_interval", 0.05)
        gateway = Gateway(GatewayConfig(url, **options), Config(limits=Limits(**limits), **server))
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
