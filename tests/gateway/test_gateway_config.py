"""What the settings of the gateway accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError
from dilithion_ws.gateway import Gateway, GatewayConfig


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


# The gateway's account


@pytest.mark.parametrize(
    "account", [{"upstream_user": "a", "upstream_password": "b"}, {"upstream_cookie": "/x/.cookie"}]
)
def test_an_account_at_the_node_is_not_lent_to_anyone(account: dict[str, str]) -> None:
    config = GatewayConfig(**account)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="every client has the rights of that account"):
        Gateway(config, Config(port=0))
    Gateway(config, Config(port=0, insecure=True))
    Gateway(config, Config(port=0, user="alice", password="hush"))
    Gateway(GatewayConfig(), Config(port=0))


def test_the_gateway_s_cookie_is_not_the_node_s(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    (tmp_path / "link").symlink_to(cookie)
    with pytest.raises(ConfigError, match="needs another file"):
        Gateway(GatewayConfig(upstream_cookie=str(cookie)), Config(port=0, cookie_file=str(tmp_path / "link")))


# Stopping


@pytest.mark.parametrize(("timeout", "left"), [(4.0, (1.0, 4.0)), (0, (0, 0))])
def test_stopping_leaves_the_server_its_time(
    monkeypatch: pytest.MonkeyPatch, timeout: float, left: tuple[float, float]
) -> None:
    gateway, given = Gateway(GatewayConfig(), Config(port=0)), []
    monkeypatch.setattr(gateway.server, "stop", lambda timeout: given.append(timeout) or True)
    monkeypatch.setattr(gateway.poller, "stop", lambda timeout: given.append(timeout))
    assert gateway.stop(timeout)
    assert given[0] == timeout / 4
    assert left[0] <= given[1] <= left[1]
