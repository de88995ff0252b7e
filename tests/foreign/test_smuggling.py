"""Requests that two parsers could read differently: behind nginx and haproxy, each client gets its own answer.

A smuggled request begins behind the end that one parser sees and before the end that the other sees. Its own end is
missing, so that it would swallow the next request on the connection between proxy and server, which is another client's.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dilithion_ws import WebSocketServer

from ..support import REQUEST, RawClient
from ..support.fixtures import ServerFactory
from .test_proxies import Proxy

BODY = b'{"method":"echo","params":["own"],"id":1}'
SIZE = b"%d" % len(BODY)
SWALLOWING = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: 500\r\n\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(headers: bytes, body: bytes, version: bytes = b"1.1") -> bytes:
    head = b"POST / HTTP/%b\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\n%b\r\n\r\n" % (version, headers)
    return head + body + SWALLOWING


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body)


def both(header: bytes) -> bytes:
    """A request with chunks and a length that includes the swallowing one."""
    return post(header + b"\r\nContent-Length: %d" % len(CHUNKS + SWALLOWING), CHUNKS)


MALFORMED = {
    "length and chunks": both(b"Transfer-Encoding: chunked"),
    "length 0 and chunks": post(b"Content-Length: 0\r\nTransfer-Encoding: chunked", CHUNKS),
    "unknown coding": both(b"Transfer-Encoding: xchunked"),
    "space before the colon": both(b"Transfer-Encoding : chunked"),
    "coding with a vertical tab": both(b"Transfer-Encoding: \x0bchunked"),
    "coding in quotes": both(b'Transfer-Encoding: "chunked"'),
    "two codings": both(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    "list of codings": both(b"Transfer-Encoding: chunked, identity"),
    "folded coding": both(b"Transfer-Encoding:\r\n chunked"),
    "coding behind a bare LF": both(b"X: a\nTransfer-Encoding: chunked"),
    "coding behind a bare CR": both(b"X: a\rTransfer-Encoding: chunked"),
    "two different lengths": post(b"Content-Length: %b\r\nContent-Length: 0" % SIZE, BODY),
    "list of lengths": post(b"Content-Length: %b, 0" % SIZE, BODY),
    "length with a plus": post(b"Content-Length: +%b" % SIZE, BODY),
    "length with an underscore": post(b"Content-Length: 4_1", BODY),
    "length in hex": post(b"Content-Length: 0x29", BODY),
    "negative length": post(b"Content-Length: -1", BODY),
    "HTTP/1.0 with chunks": post(b"Transfer-Encoding: chunked\r\nConnection: keep-alive", CHUNKS, b"1.0"),
    "chunk size in hex notation": chunked(CHUNKS.replace(b"29\r\n", b"0x29\r\n", 1)),
    "chunk size with a plus": chunked(CHUNKS.replace(b"29\r\n", b"+29\r\n", 1)),
    "chunk size with an underscore": chunked(CHUNKS.replace(b"29\r\n", b"2_9\r\n", 1)),
    "chunk size of 2**64 and more": chunked(CHUNKS.replace(b"29\r\n", b"10000000000000029\r\n", 1)),
    "extension with a bare CR": chunked(CHUNKS.replace(b"29\r\n", b"29;a\rb\r\n", 1)),
    "extension with NUL": chunked(CHUNKS.replace(b"29\r\n", b"29;\0\r\n", 1)),
    "size line that ends with LF": chunked(CHUNKS.replace(b"29\r\n", b"29\n", 1)),
    "chunk longer than its size": chunked(CHUNKS.replace(b"29\r\n", b"28\r\n", 1)),
    "trailer with a bare LF": chunked(CHUNKS[:-2] + b"X: a\n\n"),
    "trailer": chunked(CHUNKS[:-2] + b"Content-Length: 500\r\n\r\n"),
    "last chunk that ends with LF": chunked(CHUNKS[:-2] + b"\n"),
    "upgrade of another version": REQUEST.replace(b"Version: 13", b"Version: 12") + SWALLOWING,
    "upgrade with a body": REQUEST[:-2] + b"Content-Length: 5\r\n\r\n" + SWALLOWING,
}


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy, in front of a server that echoes."""
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    from dilithion_ws import Config, RpcTable

    rpc = RpcTable()
    rpc.register("echo", lambda value: value)
    config = Config(trusted_proxies=("127.0.0.1",), insecure=True)
    folder: Path = tmp_path_factory.mktemp("proxy")
    with WebSocketServer(rpc, config) as server:
        made = Proxy(folder / request.param, request.param, server.port, None)
        yield made.port
        made.close()


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, and return what arrives until the other side ends or waits for more."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as sock:
        try:
            sock.sendall(data)
            while piece := sock.recv(65536):
                received += piece
        except (TimeoutError, ConnectionError):
            pass
    return received


def own_answer(port: int, text: str) -> str:
    """Call as another client does, through the same proxy."""
    body = json.dumps({"method": "echo", "params": [text], "id": 1}).encode()
    with RawClient(port, upgrade=False) as client:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.send(head + body)
        status, _, answer = client.response()
        assert status == 200
        result: str = json.loads(answer)["result"]
        return result


@pytest.mark.parametrize("name", MALFORMED)
def test_behind_a_proxy_every_client_gets_its_own_answer(proxy: int, name: str) -> None:
    exchange(proxy, MALFORMED[name])
    for turn in range(2):
        assert own_answer(proxy, f"victim {turn}") == f"victim {turn}"


@pytest.mark.parametrize("name", MALFORMED)
def test_the_server_itself_refuses_it_and_ends_the_connection(start: ServerFactory, name: str) -> None:
    received = exchange(start().port, MALFORMED[name])
    assert received.count(b"\r\nDate: ") == 1, "one response"
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ", b"HTTP/1.1 426 ", b"HTTP/1.1 501 "))
    assert b"\r\nConnection: close\r\n" in received
