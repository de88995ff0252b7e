"""HTTP routes of the host: who may use them, what they answer, and that they are code of the host."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from dilithion_ws import Config, ConfigError, HttpCall, HttpReply, RpcTable, WebSocketServer
from dilithion_ws.service.http_routes import HttpRoutes

from ..support import wait_for
from ..support.accounts import write_users
from ..support.configs import make_config
from ..support.http import authorization, request


def reply(call: HttpCall) -> HttpReply:
    text = f"{call.method} {call.path} {call.query} {call.body.decode()} {call.session.user}"
    return HttpReply(text.encode(), "text/plain", 201, {"X-Own": "1", "Content-Security-Policy": "default-src 'self'"})


@pytest.fixture
def server(rpc: RpcTable) -> WebSocketServer:
    return WebSocketServer(rpc, Config())


def test_a_route_answers_its_paths(server: WebSocketServer) -> None:
    server.routes.add("/api/", reply, permission="READ_BLOCKCHAIN")
    server.routes.add("/api/special", lambda call: HttpReply(b"special"), permission="READ_BLOCKCHAIN")
    server.routes.add("/send", reply, methods=["POST"], permission="READ_BLOCKCHAIN")
    with server:
        status, headers, body = request(server, "GET", "/api/x?y=1")
        assert (status, body) == (201, b"GET /api/x y=1  None")
        assert (headers["content-type"], headers["x-own"]) == ("text/plain", "1")
        assert headers["content-security-policy"] == "default-src 'self'"
        assert headers["x-frame-options"] == "DENY"
        assert request(server, "HEAD", "/api/x")[::2] == (201, b"")
        assert request(server, "GET", "/api/special")[2] == b"special"
        assert request(server, "GET", "/api")[0] == 404
        status, headers, _ = request(server, "POST", "/api/x", b"{}")
        assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert request(server, "GET", "/send")[0] == 405
        assert request(server, "POST", "/send", b"{}")[0] == 403, "it may come from a page of another site"
        assert request(server, "POST", "/send", b"{}", {"X-Dilithion-RPC": "1"})[2] == b"POST /send  {} None"


def test_a_handler_that_fails_has_an_incident(server: WebSocketServer, caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: HttpCall) -> HttpReply:
        raise ValueError("inner")

    server.routes.add("/fails", fail, permission="READ_BLOCKCHAIN")
    server.routes.add("/wrong", lambda call: b"bytes", permission="READ_BLOCKCHAIN")  # type: ignore[arg-type, return-value]
    with server:
        for path in ("/fails", "/wrong"):
            status, _, body = request(server, "GET", path)
            assert status == 500
            assert b"incident" in body
            assert b"inner" not in body
    assert "ValueError: inner" in caplog.text
    assert "returned bytes, not an HttpReply" in caplog.text


def test_permissions_logins_and_public_routes(rpc: RpcTable, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, reader="readonly", root="admin")
    server = WebSocketServer(rpc, Config(users_file=str(path)))
    server.routes.add("/read", reply, permission="READ_BLOCKCHAIN")
    server.routes.add("/write", reply, permission="WRITE_WALLET")
    server.routes.add("/admin", reply)
    server.routes.add("/public", reply, is_public=True)
    server.routes.add("/shown", reply, permission="WRITE_WALLET", is_public=True)
    with server:
        statuses = {
            path: [request(server, "GET", path, None, headers)[0] for headers in ({}, authorization("reader"))]
            for path in ("/read", "/write", "/admin", "/public", "/shown")
        }
        assert statuses == {
            "/read": [401, 201],
            "/write": [401, 403],
            "/admin": [401, 403],
            "/public": [201, 201],
            "/shown": [201, 403],
        }
        assert request(server, "GET", "/admin", None, authorization("root"))[0] == 201
        assert request(server, "GET", "/public", None, authorization("reader", "wrong"))[0] == 401


def test_a_route_has_a_rate_and_a_timeout_and_holds_up_nobody(rpc: RpcTable, gate: threading.Event) -> None:
    config = make_config(limit_loopback=True, method_rates=("api=2/0.001",), call_timeout=0.2)
    server = WebSocketServer(rpc, config)

    def wait(call: HttpCall) -> HttpReply:
        gate.wait(30)
        return HttpReply(b"late")

    server.routes.add("/a/", reply, permission="READ_BLOCKCHAIN", rate="api")
    server.routes.add("/slow", wait, permission="READ_BLOCKCHAIN")
    server.routes.add("/patient", wait, permission="READ_BLOCKCHAIN", timeout=30.0)
    with server:
        assert [request(server, "GET", f"/a/{number}")[0] for number in range(3)] == [201, 201, 429]
        assert request(server, "GET", "/slow")[0] == 503
        found: list[bytes] = []
        patient = threading.Thread(target=lambda: found.append(request(server, "GET", "/patient")[2]))
        patient.start()
        wait_for(lambda: server.statistics().jobs["calls"].running >= 1)
        body = json.dumps({"method": "getblockcount", "id": 1}).encode()
        assert request(server, "POST", "/", body, {"X-Dilithion-RPC": "1"})[0] == 200
        gate.set()
        patient.join(10)
        assert found == [b"late"]


@pytest.mark.parametrize("prefix", ["api", "", "/metrics", "/health", "/openrpc.json"])
def test_paths_that_cannot_be_routes(prefix: str) -> None:
    with pytest.raises(ConfigError, match="can't be a route"):
        HttpRoutes().add(prefix, reply)


def test_a_path_has_one_route() -> None:
    routes = HttpRoutes()
    routes.add("/a", reply)
    with pytest.raises(ConfigError, match="in use"):
        routes.add("/a", reply)
    with pytest.raises(ConfigError, match="can't be a route"):
        routes.add("/b", reply, methods=["PUT"])


def test_metrics_of_the_host_are_appended(server: WebSocketServer, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> bytes:
        raise OSError("unreachable")

    server.gauges.add_text(lambda: b"node_height 7\n")
    server.gauges.add_text(fail)
    with server:
        lines = request(server, "GET", "/metrics")[2].splitlines()
    assert lines[-1] == b"node_height 7"
    assert "unreachable" in caplog.text
