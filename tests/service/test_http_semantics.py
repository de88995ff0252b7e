"""HTTP as RFC 9110 and RFC 9112 have it, over a socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import pytest

from dilithion_ws import RpcTable, WebSocketServer

from ..support import REQUEST, RawClient, wait_for
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import request

Ask = Callable[[bytes], "tuple[int, dict[str, str], bytes]"]
CALL = b'{"method":"getblockcount","id":1}'


@pytest.fixture
def server(start: ServerFactory) -> WebSocketServer:
    return start()


@pytest.fixture
def ask(server: WebSocketServer) -> Iterator[Ask]:
    clients: list[RawClient] = []

    def ask(data: bytes) -> tuple[int, dict[str, str], bytes]:
        clients.append(RawClient(server.port, upgrade=False))
        clients[-1].send(data)
        return clients[-1].response()

    yield ask
    for client in clients:
        client.close()


def post(*headers: bytes, body: bytes = CALL) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: localhost", b"X-Dilithion-RPC: 1", *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "data",
    [
        post(),
        b"GET /nosuch HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
    ids=["200", "404", "204", "400", "426"],
)
def test_every_response_has_a_date(ask: Ask, data: bytes) -> None:
    _, headers, _ = ask(data)
    assert abs(parsedate_to_datetime(headers["date"]).timestamp() - time()) < 60


def test_a_response_without_content_has_no_length(ask: Ask) -> None:
    status, headers, _ = ask(b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 204
    assert not {"content-length", "content-type", "transfer-encoding"} & set(headers)


@pytest.mark.parametrize("headers", [b"", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"])
def test_head_gets_no_body(server: WebSocketServer, connect: ClientFactory, headers: bytes) -> None:
    client = connect(server, upgrade=False)
    client.send(b"HEAD /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n")
    assert b"\r\nContent-Length: " in client.head()
    assert client.sock.recv(100) == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET http://localhost/health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        (b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 400),
        (REQUEST.replace(b"GET / ", b"GET http://evil.example/ "), 403),
        (REQUEST.replace(b"GET / ", b"GET /nosuch "), 404),
    ],
)
def test_request_targets(ask: Ask, data: bytes, status: int) -> None:
    """A host in the target takes the place of the Host header, also for an upgrade."""
    assert ask(data)[0] == status


@pytest.mark.parametrize("host", [b"evil[::1]", b"[::1].evil.example", b"[::1%x]", b"[::1%; frame-ancestors *; x ]"])
def test_a_host_with_something_beside_its_brackets_is_refused(ask: Ask, host: bytes) -> None:
    assert ask(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host)[0] in (400, 403)


def test_a_compressed_body_is_refused_before_it_is_sent(ask: Ask) -> None:
    status, headers, body = ask(post(b"Content-Encoding: gzip")[: -len(CALL)])
    assert (status, headers["accept-encoding"]) == (415, "identity")
    assert json.loads(body) == {"error": "the body must not be compressed"}
    assert ask(post(b"Content-Encoding: identity"))[0] == 200


@pytest.mark.parametrize("between", [b"", b"\r\n", b"\r\n\r\n"])
def test_an_empty_line_before_a_request_is_ignored(server: WebSocketServer, between: bytes) -> None:
    with RawClient(server.port, upgrade=False) as client:
        client.send(b"\r\n" + post() + between + post())
        for _ in range(2):
            status, headers, _ = client.response()
            assert status == 200
            client.take(int(headers["content-length"]))


def test_more_empty_lines_than_clients_send_are_refused(server: WebSocketServer) -> None:
    """Each costs time, and they were free."""
    for lines in (b"\r\n" * 9, b"\n" * 17, b"\r\n" * 30_000):
        with RawClient(server.port, upgrade=False) as client:
            client.send(lines)
            assert client.response()[0] == 400
    with RawClient(server.port, upgrade=False) as client:
        client.send(post() + b"\r\n" * 30_000)
        assert [client.response()[0]] == [200]
        client.take(1)
    with RawClient(server.port, upgrade=False) as client:
        client.send(b"\r\rGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.response()[0] == 400


def test_an_empty_line_in_two_pieces_is_ignored(server: WebSocketServer) -> None:
    with RawClient(server.port, upgrade=False) as client:
        client.send(post() + b"\r")
        client.take(int(client.response()[1]["content-length"]))
        client.send(b"\n")
        client.send(post())
        assert client.response()[0] == 200


def test_an_empty_line_after_a_response_begins_no_request(server: WebSocketServer) -> None:
    with RawClient(server.port, upgrade=False) as client:
        client.send(post())
        client.take(int(client.response()[1]["content-length"]))
        client.send(b"\r\n")
        wait_for(lambda: server.statistics().connections.total == 1)
        server.stop()
        assert client.sock.recv(100) == b"", "nothing was asked, so nothing is answered"


def test_http_1_0_has_no_chunks(ask: Ask) -> None:
    data = b"POST / HTTP/1.0\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert ask(data)[0] == 400


def test_a_client_that_has_closed_its_half_gets_the_whole_answer(start: ServerFactory, rpc: RpcTable) -> None:
    rpc.register("slow", lambda: "x" * 3_000_000, blocking=True)
    server = start()
    with RawClient(server.port, upgrade=False) as client:
        client.send(post(body=b'{"method":"slow","id":1}'))
        client.sock.shutdown(socket.SHUT_WR)
        status, _, body = client.response()
        assert (status, len(json.loads(body)["result"])) == (200, 3_000_000)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [("/nosuch", CALL, {}, 404), ("/", CALL, {"Origin": "https://evil.example"}, 403)],
)
def test_a_client_that_posts_gets_errors_as_json(
    server: WebSocketServer, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    found, received, content = request(server, "POST", path, body, headers)
    assert (found, received["content-type"]) == (status, "application/json")
    assert json.loads(content)["error"]


def test_unauthorized_posts_get_the_answer_of_the_node(guarded: WebSocketServer) -> None:
    status, headers, body = request(guarded, "POST", "/", CALL, {"X-Dilithion-RPC": "1"})
    assert status == 401
    assert json.loads(body) == {"error": "Unauthorized - Invalid or missing credentials"}
    assert headers["www-authenticate"].startswith("Basic ")


def test_a_page_can_read_every_error_and_a_foreign_one_none(guarded: WebSocketServer) -> None:
    own = f"http://localhost:{guarded.port}"
    for path, method in (("/", "POST"), ("/nosuch", "GET"), ("/openrpc.json", "GET"), ("/", "DELETE")):
        headers = request(guarded, method, path, CALL, {"Origin": own, "X-Dilithion-RPC": "1"})[1]
        assert headers["access-control-allow-origin"] == own
        assert headers["vary"] == "Origin"
    foreign: dict[str, Any] = request(guarded, "POST", "/", CALL, {"Origin": "https://evil.example"})[1]
    assert "access-control-allow-origin" not in foreign
    assert foreign["vary"] == "Origin"
