from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dilithion_ws.protocol.handshake import UpgradeRequest
from dilithion_ws.protocol.http import HttpHead, HttpRefusal, HttpRequest, HttpResponse
from dilithion_ws.protocol.http_connection import HttpConnection, HttpLimits, HttpOutcome

from ..support import REQUEST

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
LIMITS = HttpLimits(head=2000, head_too_large="too much head", body=100, body_too_large="too much body", max_fields=10)


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


def start_next(http: HttpConnection) -> HttpOutcome | None:
    """Go on to the next request, which may have arrived already."""
    http.start_next_request()
    return http.receive(b"") if http.has_more else None


def accepted(http: HttpConnection, outcome: Any) -> HttpRequest:
    """Accept the body of a request whose head was received."""
    assert type(outcome) is HttpHead
    return request(http.accept_body())


def test_a_head_is_returned_before_its_body(http: HttpConnection) -> None:
    data = post(b"hello")
    head = http.receive(data[:-5])
    assert isinstance(head, HttpHead)
    assert (head.method, head.target) == ("POST", "/x")
    assert dict(head.headers)[b"host"] == b"localhost"
    assert http.accept_body() is None
    assert http.receive(b"hell") is None
    found = request(http.receive(b"o"))
    assert (found.method, found.target, found.headers, found.body) == ("POST", "/x", head.headers, b"hello")


@pytest.mark.parametrize(("arrived", "is_kept"), [(b"hello", True), (b"hell", False), (b"", False)])
def test_a_response_to_a_head_keeps_the_connection_if_the_body_is_there(
    http: HttpConnection, arrived: bytes, is_kept: bool
) -> None:
    data = post(b"hello")[:-5]
    assert isinstance(http.receive(data + arrived), HttpHead)
    data, is_last = http.encode_response(HttpResponse(401, b"no"), DATE, close=False)
    assert is_last is not is_kept
    assert (b"\r\nConnection: close\r\n" in data) is is_last
    if is_kept:
        assert accepted(http, start_next(http) or http.receive(post(b"next"))).body == b"next"


def test_a_response_to_a_head_does_not_wait_for_a_client_that_waits(http: HttpConnection) -> None:
    http.receive(post(b"hello", b"Expect: 100-continue")[:-5])
    assert http.encode_response(HttpResponse(401, b"no"), DATE, close=False)[1]


def test_a_body_in_tiny_chunks_is_looked_at_in_turns() -> None:
    http = HttpConnection(msgspec.structs.replace(LIMITS, max_chunks=10))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert isinstance(http.receive(head + b"1\r\nx\r\n" * 25 + b"0\r\n\r\n"), HttpHead)
    assert http.accept_body() is None
    counts = [http.chunks]
    while http.has_more:
        outcome = http.receive(b"")
        counts.append(http.chunks)
    assert counts == [10, 20, 25]
    assert request(outcome).body == b"x" * 25


def test_requests_follow_each_other_on_one_connection(http: HttpConnection) -> None:
    accepted(http, http.receive(post(b"first") + post(b"second")))
    data, is_last = http.encode_response(HttpResponse(200, b"answer"), DATE, close=False)
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b"\r\n\r\nanswer")
    assert not is_last
    assert accepted(http, start_next(http)).body == b"second"


def test_the_answer_to_head_has_no_body(http: HttpConnection) -> None:
    accepted(http, http.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"))
    data, _ = http.encode_response(HttpResponse(200, b"answer"), DATE, close=False)
    assert b"Content-Length: 6" in data
    assert data.endswith(b"\r\n\r\n")


def test_a_response_may_be_the_last(http: HttpConnection) -> None:
    accepted(http, http.receive(post(b"")))
    data, is_last = http.encode_response(HttpResponse(200, b""), DATE, close=True)
    assert b"Connection: close" in data
    assert is_last


def test_a_client_that_waits_for_100_gets_it(http: HttpConnection) -> None:
    assert isinstance(http.receive(post(b"hello", b"Expect: 100-continue")[:-5]), HttpHead)
    assert http.accept_body() is None
    assert http.expects_continue
    assert http.encode_continue().startswith(b"HTTP/1.1 100 Continue\r\n")
    assert request(http.receive(b"hello")).body == b"hello"


def test_an_upgrade_keeps_the_bytes_after_it(http: HttpConnection) -> None:
    outcome = http.receive(REQUEST + b"frame")
    assert isinstance(outcome, UpgradeRequest)
    assert outcome.trailing == b"frame"


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
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 11, 431),
        (b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400),
    ],
)
def test_what_cannot_be_answered_is_refused(http: HttpConnection, data: bytes, status: int) -> None:
    outcome = http.receive(data)
    if isinstance(outcome, HttpHead):
        outcome = http.accept_body()
    assert refusal(outcome)[0] == status
