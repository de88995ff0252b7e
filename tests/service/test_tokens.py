"""API tokens at a server: every way to send one, and what it may do."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import WebSocketServer
from dilithion_ws.auth.api_tokens import hash_token

from ..support.accounts import log_in, with_header, write_users
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import authorization, request

TOKEN = "dws_" + "x" * 43
CSRF = {"X-Dilithion-RPC": "1"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}

Serve = Callable[..., WebSocketServer]


@pytest.fixture
def serve(start: ServerFactory, tmp_path: Path) -> Serve:
    """Starts a server with a user and the token `bot`, whose entry is given."""

    def serve(**entry: Any) -> WebSocketServer:
        path = tmp_path / "users.json"
        write_users(path, reader="readonly", root="admin")
        write_token(path, **entry)
        return start(users_file=str(path))

    return serve


def write_token(path: Path, **entry: Any) -> None:
    data = json.loads(path.read_text())
    data["tokens"] = {"bot": {"token_hash": hash_token(TOKEN).hex(), "role": "admin", **entry}} if entry else {}
    path.write_text(json.dumps(data))


def bearer(token: str = TOKEN) -> bytes:
    return with_header(f"Authorization: Bearer {token}")


def subprotocols(token: str = TOKEN) -> bytes:
    text = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    return with_header(f"Sec-WebSocket-Protocol: dilithion.v1, base64url.bearer.dilithion.{text}")


def basic(token: str = TOKEN) -> bytes:
    return with_header("Authorization: Basic " + base64.b64encode(f"__token__:{token}".encode()).decode())


@pytest.mark.parametrize("header", [bearer, subprotocols, basic])
def test_a_token_opens_a_connection(serve: Serve, connect: ClientFactory, header: Callable[..., bytes]) -> None:
    server = serve(role="admin")
    client = connect(server, upgrade=False)
    client.upgrade(header())
    assert client.call("add", 1, 2)["result"] == 3
    refused = connect(server, upgrade=False)
    refused.send(header("dws_wrong"))
    assert refused.response()[0] == 401


def test_a_token_logs_an_open_connection_in(serve: Serve, connect: ClientFactory) -> None:
    client = connect(serve(role="admin"))
    assert client.call("authenticate", "__token__", "dws_wrong")["error"]["code"] == -32001
    assert client.call("authenticate", "__token__", TOKEN)["result"] == {"user": "token:bot", "role": "admin"}
    assert client.call("add", 1, 2)["result"] == 3


def test_a_token_calls_by_post(serve: Serve) -> None:
    server = serve(role="admin")
    body = {"method": "add", "params": [1, 2], "id": 1}
    assert json.loads(request(server, "POST", "/", body, {**CSRF, **BEARER})[2])["result"] == 3
    assert request(server, "POST", "/", body, {**CSRF, "Authorization": "Bearer dws_wrong"})[0] == 401


def test_a_list_of_methods_denies_all_others(serve: Serve, connect: ClientFactory) -> None:
    client = connect(serve(methods=["add"]), upgrade=False)
    client.upgrade(bearer())
    assert client.call("add", 1, 2)["result"] == 3
    for method in ("echo", "subscribe", "rpc.discover", "nosuch"):
        answer = client.call(method, "blocks")
        assert answer["error"]["code"] == -32003, method
        assert f"'{method}': it is not one of this token" in answer["error"]["message"]


def test_the_document_shows_a_token_its_methods_only(serve: Serve) -> None:
    server = serve(methods=["add"])
    document = json.loads(request(server, "GET", "/openrpc.json", None, BEARER)[2])
    assert {method["name"] for method in document["methods"]} == {"add", "authenticate"}
    everything = json.loads(request(server, "GET", "/openrpc.json", None, authorization("root"))[2])
    assert len(everything["methods"]) > 2


def test_a_token_is_refused_from_another_network(serve: Serve) -> None:
    server = serve(networks=["192.0.2.0/24"])
    assert request(server, "GET", "/openrpc.json", None, BEARER)[0] == 401


def test_a_connection_ends_when_its_token_expires(serve: Serve, connect: ClientFactory) -> None:
    at = datetime.fromtimestamp(time.time() + 1.5, timezone.utc)
    client = connect(serve(expires=at.isoformat()), upgrade=False)
    client.upgrade(bearer())
    assert client.call("add", 1, 2)["result"] == 3
    assert client.close_frame() == (4401, "this token has expired")


def test_a_revoked_token_ends_its_connections(serve: Serve, connect: ClientFactory, tmp_path: Path) -> None:
    server = serve(role="admin")
    client = connect(server, upgrade=False)
    client.upgrade(bearer())
    assert client.call("add", 1, 2)["result"] == 3
    write_token(tmp_path / "users.json")
    server.reload()
    assert client.close_frame() == (4401, "this token has been revoked")


@pytest.mark.parametrize(("role", "status"), [("metrics", 200), ("readonly", 403), ("admin", 200)])
def test_metrics_need_their_permission(serve: Serve, role: str, status: int) -> None:
    server = serve(role=role)
    found, _, body = request(server, "GET", "/metrics", None, BEARER)
    assert found == status
    assert (b"needs READ_METRICS" in body) is (status == 403)


def test_the_next_user_of_a_name_reads_nothing_of_the_last_one(
    serve: Serve, connect: ClientFactory, tmp_path: Path
) -> None:
    server = serve(role="admin")
    server.send_to_user("reader", {"kind": "secret"})
    first = log_in(server, "reader", connect)
    position = first.call("subscribe", "user/reader")["result"]
    write_users(tmp_path / "users.json", root="admin")
    server.reload()
    assert first.close_frame()[0] == 4401
    write_users(tmp_path / "users.json", root="admin", reader="readonly")
    server.reload()
    second = log_in(server, "reader", connect)
    since = {"epoch": position["epoch"], "seq": 0}
    second.request("subscribe", {"topic": "user/reader", "since": since})
    answer = second.answer()["result"]
    assert (answer["seq"], answer["recovered"], answer["reason"]) == (0, False, "epoch")


def soon(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, timezone.utc).isoformat()


def test_a_connection_that_changes_to_a_token_ends_when_that_expires(serve: Serve, connect: ClientFactory) -> None:
    client = log_in(serve(expires=soon(1.5)), "reader", connect)
    assert client.call("subscribe", "blocks")["result"]
    assert client.call("authenticate", "__token__", TOKEN)["result"]["user"] == "token:bot"
    assert client.close_frame() == (4401, "this token has expired")


def test_an_expiry_that_is_set_later_holds_for_open_connections(
    serve: Serve, connect: ClientFactory, tmp_path: Path
) -> None:
    server = serve(role="admin")
    client = connect(server, upgrade=False)
    client.upgrade(bearer())
    write_token(tmp_path / "users.json", expires=soon(1.0))
    server.reload()
    assert client.close_frame() == (4401, "this token has expired")


@pytest.mark.parametrize("change", [{"networks": ["192.0.2.0/24"]}, {"name": "other"}])
def test_a_token_that_may_not_be_used_here_any_more_ends_its_connections(
    serve: Serve, connect: ClientFactory, tmp_path: Path, change: dict[str, Any]
) -> None:
    server, path = serve(role="admin"), tmp_path / "users.json"
    client = connect(server, upgrade=False)
    client.upgrade(bearer())
    data = json.loads(path.read_text())
    entry = data["tokens"].pop("bot")
    data["tokens"][change.get("name", "bot")] = {**entry, "networks": change.get("networks", ["127.0.0.1"])}
    path.write_text(json.dumps(data))
    server.reload()
    assert client.close_frame() == (4401, "this token has been revoked")


def test_subscriptions_end_with_the_right_to_subscribe(serve: Serve, connect: ClientFactory, tmp_path: Path) -> None:
    server = serve(methods=["subscribe", "add"])
    client = connect(server, upgrade=False)
    client.upgrade(bearer())
    assert client.call("subscribe", "blocks")["result"]
    write_token(tmp_path / "users.json", methods=["add"])
    server.reload()
    assert client.answer()["params"]["error"]["code"] == -32003
    assert client.call("add", 1, 2)["result"] == 3


def test_a_token_with_methods_sends_no_raw_messages(
    start: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    path, messages = tmp_path / "users.json", list[Any]()
    write_users(path, reader="readonly")
    write_token(path, methods=["add"])
    server = start(users_file=str(path), on_message=lambda session, message: messages.append(message))
    client = connect(server, upgrade=False)
    client.upgrade(bearer())
    client.text("stop everything")
    assert client.answer()["error"]["code"] == -32700
    assert client.call("add", 1, 2)["result"] == 3
    assert messages == []


def test_the_next_token_of_a_name_reads_nothing_of_the_last_one(
    serve: Serve, connect: ClientFactory, tmp_path: Path
) -> None:
    server = serve(role="admin")
    server.send_to_user("token:bot", {"kind": "secret"})
    write_token(tmp_path / "users.json", token_hash=hash_token("dws_new").hex())
    server.reload()
    client = connect(server, upgrade=False)
    client.upgrade(bearer("dws_new"))
    assert client.call("subscribe", "user/token:bot")["result"]["seq"] == 0
