"""Gateways in front of nodes of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dilithion_ws.client import Subscription
from dilithion_ws.gateway import Gateway

from . import wait_for
from .litecoin import Litecoin

GatewayFactory = Callable[..., Gateway]


def ready(gateway: Any) -> Any:
    """Wait until a gateway has polled its node once, and return it."""
    wait_for(lambda: gateway.server.events.topic("node").log.newest())
    return gateway


def take(subscription: Subscription, count: int) -> list[Any]:
    """Return the data of the next events of a subscription."""
    found: list[Any] = []
    for _ in range(count):
        event = subscription.get(10)
        assert event is not None, f"only {len(found)} of {count} events: {found}"
        found.append(event.data)
    return found


def transaction(size: int = 300) -> dict[str, Any]:
    """Return a transaction as a node decodes it."""
    return {
        "size": size,
        "vin": [],
        "vout": [{"value": 1, "n": 0, "address": "D1"}, {"value": 2, "n": 1, "address": "D2"}],
    }


def put(litecoin: Litecoin, gateways: GatewayFactory, **options: Any) -> Any:
    """Put a gateway in front of a Litecoin node."""
    return ready(gateways(litecoin.url, upstream_cookie=str(litecoin.cookie), **options))
