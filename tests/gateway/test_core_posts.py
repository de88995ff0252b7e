"""POST through the gateway as Bitcoin Core's family answers it: compared with the node itself, request by request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws.client import Client
from dilithion_ws.errors import RpcError

from ..support import REQUEST, RawClient
from ..support.accounts import basic, write_users
from ..support.gateways import GatewayFactory, put
from ..support.http import authorization, request
from ..support.litecoin import Litecoin, needs_litecoind

pytestmark = [needs_litecoind, pytest.mark.timeout(100)]

GENESIS = "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9"

BODIES: dict[str, Any] = {
    "no version": {"method": "getblockcount", "params": [], "id": 1},
    "no params": {"method": "getblockcount", "id": "x"},
    "no id": {"method": "getblockcount", "params": []},
    "1.0": {"jsonrpc": "1.0", "id": "curltest", "method": "getblockhash", "params": [0]},
    "1.1": {"version": "1.1", "id": 7, "method": "getblockhash", "params": [0]},
    "named": {"method": "getblockhash", "params": {"height": 0}, "id": 1},
    "null": {"method": "gettxout", "params": ["00" * 32, 0], "id": 1},
    "unknown method": {"method": "nosuch", "params": [], "id": 1},
    "unknown block": {"method": "getblock", "params": ["00" * 32], "id": 1},
    "wrong type": {"method": "getblockhash", "params": ["x"], "id": 1},
    "out of range": {"method": "getblockhash", "params": [10**6], "id": 1},
    "batch": [{"method": "getblockcount", "id": 1}, {"method": "nosuch", "id": "b"}, {"method": "getblockcount"}],
    "empty batch": [],
    "large batch": [{"method": "getblockhash", "params": [0], "id": number} for number in range(1000)],
    "no JSON": b"{",
    "text": b'"x"',
}


def ask_node(litecoin: Litecoin, path: str, body: Any) -> tuple[int, Any]:
    return litecoin.post(path, body if isinstance(body, bytes) else json.dumps(body).encode())


def ask_gateway(gateway: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    status, _, answer = request(gateway.server, "POST", path, body, {"Content-Type": "text/plain", **(headers or {})})
    return status, json.loads(answer)


def test_every_form_of_request_is_answered_as_the_node_answers_it(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    different = {}
    for name, body in BODIES.items():
        direct, through = ask_node(litecoin, "/", body), ask_gateway(gateway, "/", body)
        if _comparable(direct) != _comparable(through):
            different[name] = direct, through
    assert set(different) <= {"text"}  # the node calls a wrong type of body a syntax error, JSON-RPC an invalid request
    assert ask_gateway(gateway, "/", BODIES["1.0"])[1]["result"] == GENESIS


def _comparable(answer: tuple[int, Any]) -> Any:
    """Return an answer without the texts of errors that are the server's own."""
    status, found = answer
    for one in found if isinstance(found, list) else [found]:
        if one["error"] and one["error"]["code"] in (-32601, -32700):
            one["error"] = one["error"]["code"]
    return status, found


def test_a_wallet_in_the_path_holds_for_a_post_and_for_the_whole_life_of_a_websocket(
    litecoin: Litecoin, gateways: GatewayFactory
) -> None:
    gateway = put(litecoin, gateways)
    for name in ("a", "with / and ä"):
        litecoin.call("createwallet", name)
    address = litecoin.post("/wallet/a", b'{"method":"getnewaddress","id":1}')[1]["result"]
    litecoin.call("generatetoaddress", 101, address)
    balance = {"method": "getbalance", "params": [], "id": 1}
    for path in ("/wallet/a", "/wallet/with%20%2F%20and%20%C3%A4", "/wallet/nosuch", "/"):
        assert ask_gateway(gateway, path, balance) == ask_node(litecoin, path, balance), path
    url = gateway.server.url
    with Client(f"{url}/wallet/a") as client:
        assert client.call("getbalance") == 50
        assert client.call("getwalletinfo")["walletname"] == "a"
        assert [one["walletname"] for one in client.batch([("getwalletinfo", []), ("getwalletinfo", [])])] == ["a", "a"]
    with Client(f"{url}/wallet/with%20%2F%20and%20%C3%A4") as client:
        assert client.call("getbalance") == 0
    with Client(url) as client, pytest.raises(RpcError, match=r"[Ww]allet"):
        client.call("getbalance")


def test_other_paths_are_not_found(litecoin: Litecoin, gateways: GatewayFactory) -> None:
    gateway = put(litecoin, gateways)
    for path in ("/nosuch", "/wallet", "/rest/chaininfo.json"):
        with RawClient(gateway.server.port, upgrade=False) as client:
            client.send(REQUEST.replace(b"GET / ", b"GET %b " % path.encode(), 1))
            assert client.response()[0] == 404
        assert ask_gateway(gateway, path, BODIES["no version"])[0] == 404


def test_a_user_may_be_restricted_to_wallets(litecoin: Litecoin, gateways: GatewayFactory, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, alice="wallet", root="admin")
    data = json.loads(path.read_text())
    data["users"]["alice"]["wallets"] = ["a"]
    path.write_text(json.dumps(data))
    gateway = put(litecoin, gateways, users_file=str(path), insecure=False)
    for name in ("a", "b"):
        litecoin.call("createwallet", name)
    balance = {"method": "getbalance", "params": [], "id": 1}
    answers = {}
    for wallet in ("/wallet/a", "/wallet/b", "/"):
        answers[wallet] = ask_gateway(gateway, wallet, balance, authorization("alice"))
    assert answers["/wallet/a"] == (200, {"result": 0, "error": None, "id": 1})
    for wallet in ("/wallet/b", "/"):
        status, answer = answers[wallet]
        assert (status, answer["error"]["code"]) == (403, -32003)
    count = {"method": "getblockcount", "params": [], "id": 1}
    assert ask_gateway(gateway, "/wallet/b", count, authorization("alice"))[1]["result"] == 0
    assert ask_gateway(gateway, "/wallet/b", balance, authorization("root"))[0] == 200
    status, answer = ask_gateway(gateway, "/wallet/a", balance)
    assert (status, answer["error"]["code"], answer["result"]) == (401, -32001, None)
    with RawClient(gateway.server.port, upgrade=False) as client:
        client.upgrade(basic("alice").replace(b"GET / ", b"GET /wallet/a ", 1))
        assert client.call("getbalance")["result"] == 0


def test_pages_of_other_sites_are_refused_and_clients_need_no_header(
    litecoin: Litecoin, gateways: GatewayFactory
) -> None:
    gateway = put(litecoin, gateways)
    body = BODIES["no version"]
    assert ask_gateway(gateway, "/", body)[0] == 200
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        status, answer = ask_gateway(gateway, "/", body, headers)
        assert status == 403
        assert answer["error"]
