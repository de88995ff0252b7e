"""What the settings of the gateway accept."""

from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws import ConfigError
from dilithion_ws.gateway import GatewayConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"upstream": "127.0.0.1:8332"}, "it takes http://HOST:PORT"),
        ({"upstream": "http://h:99999"}, "it takes http://HOST:PORT"),
        ({"upstream": "http://u:p@h"}, "has credentials in it"),
        ({"upstream_user": "x"}, "belong together"),
        ({"dialect": "ethereum"}, "it takes auto, dilithion, core"),
        ({"poll_interval": 100.0}, "is shorter than rpcgatewaypollinterval"),
        ({"poll_share": 2.0}, "it takes a share, at most 1"),
        ({"zmq": ("127.0.0.1:1",)}, "it takes tcp://HOST:PORT"),
        ({"poll_timeout": float("inf")}, "rpcgatewaypolltimeout"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatewayConfig(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("url", "port"), [("http://h:1", 1), ("http://h", 80), ("https://h", 443), ("http://h/wallet/x", 80)]
)
def test_the_port_of_the_node(url: str, port: int) -> None:
    assert GatewayConfig(upstream=url).port == port


def test_its_representation_has_no_password() -> None:
    config = GatewayConfig(upstream_user="a", upstream_password="hush")
    assert repr(config) == "GatewayConfig(upstream='http://127.0.0.1:8332', dialect='auto')"
