from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws.protocol.handshake import UpgradeRequest
from dilithion_ws.protocol.http import HttpRefusal, HttpRequest, HttpResponse
from dilithion_ws.protocol.http_connection import HttpConnection, HttpLimits

from ..support import REQUEST

LIMITS = HttpLimits(head=2000, head_too_large="too much head", body=100, body_too_large="too much body")


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST /x HTTP/" + version, b"Host: localhost", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture
def http() -> HttpConnection:
    return HttpConnection(LIMITS)


def request(outcome: Any) -> HttpRequest:
    assert isinstance(outcome, HttpRequest)
    return outcome


def refusal(outcome: Any) -> tuple[int, str]:
    assert isinstance(outcome, HttpRefusal)
    return outcome.status, outcome.message


def test_a_request_is_returned_when_its_body_is_complete(http: HttpConnection) -> None:
    data = post(b"hello")
    assert http.receive(data[:-1]) is None
    found = request(http.receive(data[-1:]))
    assert (found.method, found.target, found.body) == ("POST", "/x", b"hello")
    assert dict(found.headers)[b"host"] == b"localhost"


def test_requests_follow_each_other_on_one_connection(http: HttpConnection) -> None:
    request(http.receive(post(b"first") + post(b"second")))
    data, is_last = http.encode_response(HttpResponse(200, b"answer"), close=False)
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b"\r\n\r\nanswer")
    assert not is_last
    assert request(http.next_request()).body == b"second"


def test_the_answer_to_head_has_no_body(http: HttpConnection) -> None:
    request(http.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"))
    data, _ = http.encode_response(HttpResponse(200, b"answer"), close=False)
    assert b"Content-Length: 6" in data
    assert data.endswith(b"\r\n\r\n")


def test_a_response_may_be_the_last(http: HttpConnection) -> None:
    request(http.receive(post(b"")))
    data, is_last = http.encode_response(HttpResponse(200, b""), close=True)
    assert b"Connection: close" in data
    assert is_last


def test_a_client_that_waits_for_100_gets_it(http: HttpConnection) -> None:
    assert http.receive(post(b"hello", b"Expect: 100-continue")[:-5]) is None
    assert http.expects_continue
    assert http.encode_continue().startswith(b"HTTP/1.1 100 Continue\r\n")
    assert request(http.receive(b"hello")).body == b"hello"


def test_an_upgrade_keeps_the_bytes_after_it(http: HttpConnection) -> None:
    assert isinstance(http.receive(REQUEST + b"frame"), UpgradeRequest)
    assert http.trailing == b"frame"


def test_without_ordinary_requests_post_is_refused() -> None:
    assert refusal(HttpConnection(HttpLimits(2000, "")).receive(post(b"")))[0] == 405


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"x" * 101), 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        (post(b"", b"X: " + b"x" * 1990), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 3000, 431),
        (post(b"", version=b"2.7"), 505),
        (b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_answered_is_refused(http: HttpConnection, data: bytes, status: int) -> None:
    assert refusal(http.receive(data))[0] == status
