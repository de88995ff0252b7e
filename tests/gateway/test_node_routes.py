"""What the node's port has beside JSON-RPC, through the gateway: with our permissions, rates and cache."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dilithion_ws import ConfigError
from dilithion_ws.gateway import GatewayConfig

from ..support import wait_for
from ..support.accounts import write_users
from ..support.gateways import GatewayFactory, put, ready, transaction
from ..support.http import authorization, request
from ..support.litecoin import Litecoin, needs_litecoind
from ..support.standin import StandIn

INFO = (200, "application/json", b'{"chain":"main"}')


def gets(standin: StandIn) -> list[str]:
    """Return the paths that the node was asked for by GET."""
    heads = [one.split(b" ", 2) for one in standin.requests]
    return [path.decode() for method, path, _ in heads if method == b"GET"]


def get(gateway: Any, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    status, _, body = request(gateway.server, "GET", path, None, headers)
    return status, body


def test_the_rest_interface_is_passed_on_and_kept_until_something_changes(
    standin: StandIn, gateways: GatewayFactory
) -> None:
    standin.pages = {f"/api/v1/{name}": INFO for name in ("info", "fee", "balance/D1", "utxos/D1", "tx/00")}
    standin.pages["/api/v1/broadcast"] = (200, "application/json", b'{"txid":"00"}')
    gateway = ready(gateways(standin.url))
    for path in list(standin.pages)[:5]:
        for _ in range(3):
            assert get(gateway, path) == (200, INFO[2])
    assert gets(standin) == list(standin.pages)[:5]
    standin.mine()
    wait_for(lambda: gateway._published.tip().height == 1)
    assert get(gateway, "/api/v1/info") == (200, INFO[2])
    assert gets(standin).count("/api/v1/info") == 2
    standin.mempool["a"] = transaction()
    wait_for(lambda: gateway.server.events.topic("mempool").log.position.seq == 1)
    get(gateway, "/api/v1/info")
    assert gets(standin).count("/api/v1/info") == 3, "the mempool has changed"
    body, headers = json.dumps({"rawtx": "00"}).encode(), {"Content-Type": "application/json"}
    status, _, answer = request(gateway.server, "POST", "/api/v1/broadcast", body, headers)
    assert (status, json.loads(answer)) == (200, {"txid": "00"})
    assert standin.requests[-1].endswith(body)
    get(gateway, "/api/v1/info")
    assert gets(standin).count("/api/v1/info") == 4, "a write may have changed it"
    for path in ("/api/v1/nosuch", "/api/v1/balance/", "/api/v1/balance/../x", "/api/v1/infox"):
        assert get(gateway, path)[0] == 404
    assert get(gateway, "/api/v1/tx/unknown") == (404, b'{"error":{"code":4004}}')


def test_what_a_client_may_do_is_decided_here(standin: StandIn, gateways: GatewayFactory, tmp_path: Any) -> None:
    standin.pages = {"/api/v1/info": INFO}
    path = tmp_path / "users.json"
    write_users(path, reader="readonly")
    users: dict[str, Any] = {"users_file": str(path), "insecure": False}
    gateway = ready(gateways(standin.url, **users))
    assert get(gateway, "/api/v1/info")[0] == 401
    assert get(gateway, "/api/v1/info", authorization("reader"))[0] == 200
    headers = {**authorization("reader"), "X-Dilithion-RPC": "1"}
    assert request(gateway.server, "POST", "/api/v1/broadcast", b"{}", headers)[0] == 403
    public = ready(gateways(standin.url, public_api=True, **users))
    assert get(public, "/api/v1/info")[0] == 200
    assert request(public.server, "POST", "/api/v1/broadcast", b"{}")[0] == 404  # as the stand-in answers it
    standin.pages |= dict.fromkeys(("/wallet", "/miner", "/api/stats", "/api/health"), INFO)
    open_ = ready(gateways(standin.url, routes=("api", "pages"), statistics=standin.url, **users))
    assert [get(open_, path)[0] for path in ("/wallet", "/miner")] == [200, 200]
    for path in ("/api/stats", "/api/health"):
        assert get(open_, path)[0] == 401
        assert get(open_, path, authorization("reader"))[0] == 200
    limited = ready(gateways(standin.url, limit_loopback=True, method_rates=("api/v1/info=1/0.001",)))
    assert [get(limited, "/api/v1/info")[0] for _ in range(2)] == [200, 429]


def test_pages_and_statistics_by_a_setting(standin: StandIn, gateways: GatewayFactory) -> None:
    standin.pages = {
        "/wallet": (200, "text/html; charset=utf-8", b"<script>wallet()</script>"),
        "/api/stats": INFO,
        "/metrics": (200, "text/plain", b"# TYPE dilithion_block_height gauge\ndilithion_block_height 7\nother 1\n"),
    }
    options = {"routes": ("api", "pages"), "statistics": standin.url}
    gateway = ready(gateways(standin.url, **options))
    status, headers, body = request(gateway.server, "GET", "/wallet")
    assert (status, body) == (200, b"<script>wallet()</script>")
    assert "'unsafe-inline'" in headers["content-security-policy"]
    assert get(gateway, "/api/stats") == (200, INFO[2])
    lines = get(gateway, "/metrics")[1].splitlines()
    assert b"dilithion_block_height 7" in lines
    assert b"other 1" not in lines
    assert any(line.startswith(b"dilithion_gateway_node_height ") for line in lines)
    plain = ready(gateways(standin.url, statistics="http://127.0.0.1:9"))
    for path in ("/wallet/", "/wallet/../api/v1/info", "/wallet/%2e%2e/api/v1/info", "/miner/../metrics"):
        assert get(gateway, path)[0] == 404, path
    assert get(plain, "/wallet")[0] == 404
    assert get(plain, "/metrics")[0] == 200, "its statistics can't be reached"


def test_a_node_that_cannot_be_reached(gateways: GatewayFactory) -> None:
    gateway = gateways("http://127.0.0.1:9", dialect="dilithion")
    wait_for(lambda: get(gateway, "/api/v1/info")[0] == 502)
    _, body = get(gateway, "/api/v1/info")
    assert "can't be reached" in json.loads(body)["error"]["message"]


@needs_litecoind
@pytest.mark.timeout(60)
def test_the_rest_interface_of_core_by_a_setting(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    litecoin.stop()
    litecoin.start("-rest")
    plain, gateway = put(litecoin, gateways), put(litecoin, gateways, routes=("rest",))
    path = "/rest/chaininfo.json"
    assert get(plain, path)[0] == 404
    status, body = get(gateway, path)
    assert (status, json.loads(body)["chain"]) == (200, "regtest")
    for other in ("/rest/../wallet/x", "/rest//x", "/rest/./x", "/rest/%2e%2e/x", "/rest/x?a=%0d"):
        assert get(gateway, other)[0] == 404
    assert get(gateway, "/api/v1/info")[0] == 404


def test_the_address_of_the_statistics_and_names_of_routes() -> None:
    assert GatewayConfig(upstream="http://127.0.0.1:8332").statistics_url == "http://127.0.0.1:8334"
    assert GatewayConfig(upstream="http://[::1]:18332/wallet/x").statistics_url == "http://[::1]:18334"
    with pytest.raises(ConfigError, match="it takes api, pages, rest"):
        GatewayConfig(routes=("nosuch",))
