"""HTTP on the same port: JSON-RPC as the node's clients speak it, health, OpenRPC, and requests that mean two things."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import CallContext, Config, ConfigError, RpcDialect, RpcTable, WebSocketServer
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.users import User, UsersFile, render_users

from ..support import REQUEST, RawClient, wait_for
from ..support.accounts import basic, write_users
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import authorization, request

CSRF = {"X-Dilithion-RPC": "1"}


def call(server: WebSocketServer, body: Any, **headers: str) -> tuple[int, Any]:
    status, _, answer = request(server, "POST", "/", body, {**CSRF, **headers})
    return status, json.loads(answer)


def test_calls_by_post(start: ServerFactory) -> None:
    server = start()
    assert call(server, {"method": "add", "params": [1, 2], "id": 1}) == (200, {"jsonrpc": "2.0", "result": 3, "id": 1})
    status, answer = call(server, {"method": "nosuch", "id": "x"})
    assert (status, answer["error"]["code"], answer["id"]) == (200, -32601, "x")
    assert call(server, b"{")[1]["error"]["code"] == -32700
    assert call(server, {"method": "getblockcount"})[1] == {"jsonrpc": "2.0", "result": 840000, "id": None}
    status, answers = call(server, [{"method": "getblockcount", "id": 1}, {"method": "getblockcount"}, 5])
    assert [answer.get("result") for answer in answers] == [840000, 840000, None]
    assert [answer["id"] for answer in answers] == [1, None, None]
    text = "x" * 1_000_000
    assert call(server, {"method": "echo", "params": [text], "id": 1})[1]["result"] == text
    assert call(server, b'\xef\xbb\xbf{"method":"getblockcount","id":1}')[1]["result"] == 840000, "a byte order mark"
    small = start(batch_size=2)
    assert call(small, [{"method": "getblockcount", "id": n} for n in range(3)])[1]["error"]["code"] == -32600


def test_a_large_body_of_too_many_values_is_not_parsed(start: ServerFactory) -> None:
    server = start(json_values=100, inline_message_size=200)
    status, answer = call(server, {"method": "echo", "params": [[0] * 200], "id": 1})
    assert (status, answer["id"], answer["error"]["code"]) == (200, None, -32700)
    assert call(server, {"method": "echo", "params": ["x" * 300], "id": 1})[1]["result"] == "x" * 300


@pytest.mark.parametrize("body", [b'{"method":"echo","id":"\xff"}', b'{"method":"echo","x":"\xff"}', b'["\xff"]'])
def test_bodies_that_are_no_utf8(start: ServerFactory, body: bytes) -> None:
    status, answer = call(start(), body)
    assert status in (200, 400)
    assert answer["error"]["code"] == -32700
    assert answer["id"] is None


def test_the_header_against_forged_requests(start: ServerFactory) -> None:
    server = start()
    status, _, body = request(server, "POST", "/", {"method": "getblockcount", "id": 1})
    assert status == 403
    assert json.loads(body)["code"] == -32600
    assert "CSRF" in json.loads(body)["error"]
    for spelling in ("X-Dilithion-Rpc", "x-dilithion-rpc", "X-DILITHION-RPC"):
        assert request(server, "POST", "/", {"method": "getblockcount", "id": 1}, {spelling: ""})[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_a_content_type_that_no_form_of_a_page_can_send_is_enough(
    start: ServerFactory, headers: dict[str, str], status: int
) -> None:
    assert request(start(), "POST", "/", {"method": "getblockcount", "id": 1}, headers)[0] == status


def test_pages_of_other_origins_and_other_names(start: ServerFactory) -> None:
    server = start()
    body = {"method": "getblockcount", "id": 1}
    foreign = request(server, "POST", "/", body, {**CSRF, "Origin": "https://evil.example"})
    assert foreign[0] == 403
    assert "access-control-allow-origin" not in foreign[1]
    assert b"rpcwebsocketalloworigin" in foreign[2]
    foreign = request(server, "POST", "/", body, {**CSRF, "Host": "evil.example"})
    assert foreign[0] == 403
    assert b"rpcwebsocketallowhost" in foreign[2]
    own = f"http://localhost:{server.port}"
    status, headers, _ = request(server, "OPTIONS", "/", None, {"Origin": own})
    assert status == 204
    assert headers["access-control-allow-origin"] == own
    assert headers["access-control-allow-headers"] == "Content-Type, Authorization, X-Dilithion-RPC"
    assert request(server, "POST", "/", body, {**CSRF, "Origin": own})[1]["access-control-allow-origin"] == own
    assert request(server, "POST", "/", body, CSRF)[1]["access-control-allow-origin"] == "*"


def test_credentials_and_permissions(guarded: WebSocketServer) -> None:
    body = {"method": "getbalance", "id": 1}
    status, headers, _ = request(guarded, "POST", "/", body, CSRF)
    assert status == 401
    assert headers["www-authenticate"].startswith("Basic realm=")
    assert request(guarded, "POST", "/", body, {**CSRF, **authorization("reader", "wrong")})[0] == 401
    assert call(guarded, body, **authorization("reader"))[1]["result"] == 5
    assert call(guarded, body, **authorization("reader"))[1]["result"] == 5, "remembered"
    status, answer = call(guarded, {"method": "sendtoaddress", "params": ["x", 1], "id": 7}, **authorization("reader"))
    assert (status, answer["id"]) == (403, 7)
    assert answer["error"]["code"] == -32000
    assert answer["error"]["error_code"] == "RPC-PERMISSION-DENIED"
    _, answers = call(guarded, [body, {"method": "echo", "params": [1], "id": 2}], **authorization("reader"))
    assert [answer.get("result") for answer in answers] == [5, None]
    batch = [body, {"method": "sendtoaddress", "params": ["x", 1], "id": 2}]
    status, answers = call(guarded, batch, **authorization("reader"))
    assert (status, answers[1]["error"]["code"]) == (200, -32003)
    for guess in range(5):
        request(guarded, "POST", "/", body, {**CSRF, **authorization("root", f"wrong{guess}")})
    assert request(guarded, "POST", "/", body, {**CSRF, **authorization("root")})[0] == 429


def test_rates(rpc: RpcTable) -> None:
    with WebSocketServer(rpc, Config(limit_loopback=True, method_rates=("getblockcount=2/0.1",))) as server:
        body = {"method": "getblockcount", "id": 1}
        assert [request(server, "POST", "/", body, CSRF)[0] for _ in range(3)] == [200, 200, 429]
        _, headers, answer = request(server, "POST", "/", body, CSRF)
        assert int(headers["retry-after"]) <= 10
        assert json.loads(answer)["error"]["code"] == -32000


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(
    start: ServerFactory, connect: ClientFactory
) -> None:
    server = start()
    client = connect(server, upgrade=False)

    def post(number: int) -> bytes:
        body = b'{"method":"add","params":[%d],"id":%d}' % (number, number)
        return b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    client.send(b"".join(post(number) for number in range(50)))
    for number in range(50):
        _, headers, _ = client.response()
        size = int(headers["content-length"])
        assert json.loads(client.take(size)) == {"jsonrpc": "2.0", "result": number + 2, "id": number}
    assert "connection" not in headers
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'{"method":"getblockcount","id":1}'
    client.send(chunked + b"5\r\n" + body[:5] + b"\r\n%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n")
    _, headers, _ = client.response()
    assert b"840000" in client.take(int(headers["content-length"]))
    client.upgrade()
    assert client.call("getblockcount")["result"] == 840000, "a kept connection may become a WebSocket"


def test_slow_calls_hold_up_no_other_client(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc = RpcTable()
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    rpc.register("quick", lambda: 1)
    server = start(rpc, workers=4, queue=2)
    stuck = [connect(server, upgrade=False) for _ in range(6)]
    body = b'{"method":"stuck","id":1}'
    for client in stuck:
        client.send(_post(body))
    busy = [client.response() for client in stuck[4:]]
    assert {status for status, _, _ in busy} == {503}
    assert all(headers["retry-after"] == "1" for _, headers, _ in busy)
    with RawClient(server.port) as client:
        assert client.call("quick")["result"] == 1
    assert request(server, "GET", "/health")[0] == 200
    gate.set()
    assert [client.response()[0] for client in stuck[:4]] == [200] * 4


def _post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


HOST = b"Host: localhost\r\nX-Dilithion-RPC: 1\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: abc\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"X-Odd: a\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length : 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Host: localhost\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/9.9\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}",
    ],
)
def test_requests_that_mean_two_things_are_refused(start: ServerFactory, connect: ClientFactory, data: bytes) -> None:
    client = connect(start(), upgrade=False)
    client.send(data + b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")
    status, _, body = client.response()
    assert status in (400, 501, 505)
    assert client.buffer == body or client.at_end()


def test_bodies_have_a_limit(start: ServerFactory, connect: ClientFactory) -> None:
    server = start(message_size=1000)
    assert request(server, "POST", "/", b"x" * 1001, CSRF)[0] == 413
    client = connect(server, upgrade=False)
    client.send(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
    )
    status, _, body = client.response()
    assert status == 413
    assert b"rpcwebsocketmessagesize" in body


def test_who_sends_far_too_much_still_reads_why_it_was_refused(start: ServerFactory, connect: ClientFactory) -> None:
    """An answer beside unread bytes would be lost with the reset of the connection."""
    client = connect(start(message_size=1000), upgrade=False)
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4000000\r\n\r\n")
    client.sock.setblocking(True)
    with contextlib.suppress(ConnectionError):
        client.sock.sendall(b"x" * 4_000_000)
    assert client.response()[0] == 413


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"Content-Length: 1001\r\n\r\n", 413),
        (b"Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413),
        (CHUNKED, 413),
        (b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n", 400),
        (b"Content-Length: 2\r\n\r\n", 408),
    ],
)
def test_a_page_may_read_why_its_body_was_refused(
    start: ServerFactory, connect: ClientFactory, rest: bytes, status: int
) -> None:
    server = start(message_size=1000, handshake_timeout=1)
    client = connect(server, upgrade=False)
    origin = f"http://127.0.0.1:{server.port}".encode()
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Origin: " + origin + b"\r\nX-Dilithion-RPC: 1\r\n" + rest)
    found, headers, _ = client.response()
    assert (found, headers.get("access-control-allow-origin")) == (status, origin.decode())


def test_who_may_not_send_a_body_learns_that_before_its_size(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(user="alice", password="right-password", message_size=1000), upgrade=False)
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"X-Dilithion-RPC: 1\r\nContent-Length: 1001\r\n\r\n")
    assert client.response()[0] == 401


def test_a_client_that_waits_for_100_gets_it_first(start: ServerFactory, connect: ClientFactory) -> None:
    client = connect(start(), upgrade=False)
    body = b'{"method":"getblockcount","id":1}'
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
    assert client.head().startswith(b"HTTP/1.1 100 ")
    client.send(body)
    assert client.response()[0] == 200


def test_health_and_what_is_not_there(start: ServerFactory) -> None:
    server = start()
    status, _, body = request(server, "GET", "/health")
    assert status == 200
    assert json.loads(body)["ready"] is True
    assert request(server, "HEAD", "/health")[2] == b""
    assert request(server, "GET", "/nothing")[0] == 404
    assert request(server, "GET", "/wallet")[0] == 404
    assert request(server, "PUT", "/", b"")[0] == 405
    assert request(start(http=0), "GET", "/health")[0] == 426


def test_a_server_that_stops_answers_running_requests_and_closes_idle_connections_silently(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    rpc = RpcTable()
    rpc.register("stuck", lambda: gate.wait(20), blocking=True)
    server = start(rpc)
    waiting, kept, begun, late = (connect(server, upgrade=False) for _ in range(4))
    late.send(b"GET /hea")
    body = b'{"method":"stuck","id":1}'
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n\r\n" % len(body)
    waiting.send(head + body)
    begun.send(head[:20])
    kept.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _, headers, _ = kept.response()
    kept.take(int(headers["content-length"]))
    wait_for(lambda: server.statistics().jobs["calls"].running)
    stopping = threading.Thread(target=server.stop, args=(5.0,))
    stopping.start()
    assert kept.sock.recv(100) == b"", "nothing was asked, so nothing is answered"
    assert begun.response()[0] == 503
    assert late.response()[0] == 503
    wait_for(lambda: _is_refused(server.port))
    gate.set()
    status, headers, answer = waiting.response()
    assert (status, headers["connection"], json.loads(answer)["result"]) == (200, "close", True)
    stopping.join()


# Metrics


def _is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_metrics_count_what_happened(guarded: WebSocketServer, connect: ClientFactory) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    assert request(guarded, "GET", "/metrics")[0] == 401
    for _ in range(3):
        call(guarded, {"method": "getbalance", "id": 1}, **authorization("reader"))
    call(guarded, {"method": "getbalance", "params": [5], "id": 1}, **authorization("reader"))
    call(guarded, {"method": "sendtoaddress", "params": ["x", 1], "id": 1}, **authorization("reader"))
    client = connect(guarded, upgrade=False)
    client.upgrade(basic("reader"))
    client.call("subscribe", "blocks")
    guarded.publish("mining", {"kind": "stopped"})
    for guess in range(5):
        call(guarded, {"method": "getbalance", "id": 1}, **authorization("reader", f"wrong{guess}"))
    status, headers, body = request(guarded, "GET", "/metrics", None, authorization("root"))
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert found["dilithion_ws_calls_total", "getbalance", "ok"] == 3
    assert found["dilithion_ws_calls_total", "-32602", "getbalance"] == 1
    assert found["dilithion_ws_call_seconds_count", "getbalance"] == 3
    assert found["dilithion_ws_call_seconds_bucket", "+Inf", "getbalance"] == 3
    assert found["dilithion_ws_refusals_total", "denied"] == 1
    assert found["dilithion_ws_refusals_total", "locked out"] == 1
    assert found["dilithion_ws_refusals_total", "login failed"] == 5
    assert found["dilithion_ws_connections", "open"] == 1
    assert found["dilithion_ws_connections_accepted_total",] >= 8
    assert found["dilithion_ws_bytes_total", "in"] > 500
    assert found["dilithion_ws_bytes_total", "out"] > 500
    assert found["dilithion_ws_events_total", "mining"] == 1
    assert found["dilithion_ws_subscriptions", "blocks"] == 1
    assert found["dilithion_ws_lag", "blocks"] == 0
    assert found["dilithion_ws_queue", "calls"] == 0


def test_a_host_has_gauges_of_its_own(start: ServerFactory) -> None:
    server = start()
    heights: Iterator[Any] = iter([7, None, "high", 8])
    server.gauge("node_height", "The height of the chain", lambda: next(heights))
    server.gauge("broken", "It can't be read", lambda: 1 / 0)
    texts = [request(server, "GET", "/metrics")[2].decode() for _ in range(4)]
    assert "# HELP node_height The height of the chain\n# TYPE node_height gauge\nnode_height 7.0\n" in texts[0]
    assert ["\nnode_height " in text for text in texts] == [True, False, False, True]
    assert all("dilithion_ws_connections" in text and "broken" not in text for text in texts)


@pytest.mark.parametrize("name", ["", "a-b", "1st", "a\nb", "dilithion_ws_queue", "taken", "x" * 200])
def test_names_that_are_not_for_gauges(start: ServerFactory, name: str) -> None:
    server = start()
    server.gauge("taken", "", lambda: 1)
    with pytest.raises(ConfigError, match="is not a name for a gauge of the host"):
        server.gauge(name, "", lambda: 1)


def test_metrics_without_their_library_are_a_clear_answer(
    start: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, _, body = request(start(), "GET", "/metrics")
    assert status == 501
    assert b"pip install prometheus-client" in body


# Clients of the node as they are today


def test_curl(start: ServerFactory) -> None:
    server = start()
    command = ["curl", "-s", "-H", "X-Dilithion-RPC: 1", "-H", "Content-Type: application/json", "--data-binary"]
    url = f"http://127.0.0.1:{server.port}/"
    body = '{"jsonrpc":"2.0","method":"add","params":{"a":1},"id":1}'
    result = subprocess.run([*command, body, url], capture_output=True, text=True, timeout=20, check=True)
    assert json.loads(result.stdout) == {"jsonrpc": "2.0", "result": 3, "id": 1}


def test_urllib_whose_header_the_node_refuses(start: ServerFactory) -> None:
    server = start()
    body = json.dumps({"method": "getblockcount", "id": 1}).encode()
    made = urllib.request.Request(f"http://127.0.0.1:{server.port}/", body, CSRF)
    with urllib.request.urlopen(made, timeout=10) as response:
        assert json.load(response)["result"] == 840000


def test_a_password_over_http_is_checked_in_the_pool(rpc: RpcTable, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    stored = hash_password("hush-hush")
    path.write_text(render_users(UsersFile({"alice": User("alice", "admin", 0xFFFFFFFF, stored)}, {})))
    path.chmod(0o600)
    with WebSocketServer(rpc, Config(users_file=str(path))) as server:
        assert call(server, {"method": "add", "params": [1], "id": 1}, **authorization("alice", "hush-hush"))[0] == 200


def test_a_library_for_bitcoin_nodes(guarded: WebSocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """python-bitcoinrpc; the one header that Dilithion wants on top is added where it makes its connection."""
    proxy = pytest.importorskip("bitcoinrpc.authproxy")
    original = http.client.HTTPConnection.putheader

    def putheader(self: http.client.HTTPConnection, header: str, *values: Any) -> None:
        if header == "Authorization":
            original(self, "X-Dilithion-RPC", "1")
        original(self, header, *values)

    monkeypatch.setattr(http.client.HTTPConnection, "putheader", putheader)
    node = proxy.AuthServiceProxy(f"http://root:rootroot@127.0.0.1:{guarded.port}")
    assert node.getblockcount() == 840000
    assert node.add(1, 2) == 3
    with pytest.raises(proxy.JSONRPCException, match="Method not found"):
        node.nosuch()
    node._AuthServiceProxy__conn.close()


# What costs much


def test_every_request_counts_as_a_message(start: ServerFactory) -> None:
    server = start(limit_loopback=True, message_burst=2, message_rate=0.1)
    assert [request(server, "GET", "/health")[0] for _ in range(3)] == [200, 200, 429]
    status, headers, body = request(server, "POST", "/", {"method": "getblockcount", "id": 1}, CSRF)
    assert status == 429
    assert int(headers["retry-after"]) <= 10
    assert json.loads(body)["id"] is None, "it was not read"


def test_a_body_is_not_asked_for_without_credentials(guarded: WebSocketServer, connect: ClientFactory) -> None:
    client = connect(guarded, upgrade=False)
    client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
    status, _, body = client.response()
    assert status == 401
    client.take(len(body))
    assert client.at_end()


def test_a_gauge_that_blocks_holds_up_nothing_but_the_metrics(
    start: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    threads: list[str] = []
    server = start()
    server.gauge("slow", "It blocks", lambda: threads.append(threading.current_thread().name) or gate.wait(20))
    waiting, other = connect(server, upgrade=False), connect(server)
    waiting.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: threads)
    assert other.call("getblockcount")["result"] == 840000
    assert call(server, {"method": "getblockcount", "id": 1})[1]["result"] == 840000
    gate.set()
    assert waiting.response()[0] == 200


def test_waiting_calls_of_one_user_keep_no_other_out(
    tmp_path: Path, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    """Logins, calls by POST, and calls of other users go on."""
    rpc.register("waitforblock", lambda: gate.wait(30), blocking=True, permission="READ_BLOCKCHAIN")
    rpc.register("slow", lambda: "done", blocking=True, permission="READ_BLOCKCHAIN")
    path = tmp_path / "users.json"
    write_users(path, reader="readonly", root="admin")
    with WebSocketServer(rpc, Config(users_file=str(path))) as server:
        for client in (connect(server, upgrade=False), connect(server, upgrade=False)):
            client.upgrade(basic("reader"))
            for at in range(20):
                client.request("waitforblock", id=at)
        wait_for(lambda: server.statistics().jobs["calls"].running == 10)
        assert call(server, {"method": "slow", "id": 1}, **authorization("root"))[1]["result"] == "done"
        assert call(server, {"method": "getblockcount", "id": 1}, **authorization("reader"))[1]["result"] == 840000
        assert request(server, "GET", "/health")[0] == 200
        gate.set()


def test_a_link_on_another_site_cannot_try_passwords(guarded: WebSocketServer) -> None:
    """It could lock out all clients of the address. A page whose origin is allowed sends that, and may log in."""
    for _ in range(6):
        headers = {"Sec-Fetch-Site": "cross-site", **authorization("reader", "wrong")}
        status, answer, _ = request(guarded, "GET", "/openrpc.json", None, headers)
        assert status == 403
        assert "www-authenticate" not in answer
    assert guarded.statistics().audit_events.get("login failed", 0) == 0
    own = {"Sec-Fetch-Site": "cross-site", "Origin": f"http://localhost:{guarded.port}", **authorization("reader")}
    assert request(guarded, "GET", "/openrpc.json", None, own)[0] == 200
    assert request(guarded, "GET", "/openrpc.json", None, authorization("reader"))[0] == 200


def test_the_client_for_pages_is_served_beside_the_page(start: ServerFactory) -> None:
    status, headers, body = request(start(), "GET", "/client.js")
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert b"export" in body


def core_call(server: WebSocketServer, body: Any) -> tuple[int, Any]:
    status, _, answer = request(server, "POST", "/", body)
    return status, json.loads(answer) if answer else None


def test_calls_by_post_in_the_dialect_of_bitcoin_core(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable
) -> None:
    @rpc.method
    def wallet_of(context: CallContext) -> str | None:
        return context.wallet

    rpc.dialect = RpcDialect.CORE
    server = start()
    assert core_call(server, {"method": "add", "params": [1, 2], "id": 1}) == (
        200,
        {"result": 3, "error": None, "id": 1},
    )
    status, answer = core_call(server, {"method": "nosuch", "id": "x"})
    assert (status, answer["result"], answer["error"]["code"], answer["id"]) == (404, None, -32601, "x")
    assert core_call(server, {"jsonrpc": "2.0", "method": "add", "params": [1, 2]}) == (204, None)
    assert core_call(server, []) == (200, [])
    status, _, body = request(server, "POST", "/wallet/a%20b", {"method": "wallet_of", "id": 1})
    assert (status, json.loads(body)["result"]) == (200, "a b")
    client = connect(server, upgrade=False)
    client.upgrade(REQUEST.replace(b"GET / ", b"GET /wallet/savings "))
    assert client.call("wallet_of")["result"] == "savings"
    assert request(server, "GET", "/nothing")[0] == 404
    status, answer = core_call(server, b"\xff")
    assert (answer["error"]["code"], answer["id"]) == (-32700, None)
