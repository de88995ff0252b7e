"""The shortcut for upgrade requests reads what h11 reads, or leaves the request to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dilithion_ws.protocol.handshake import UpgradeRequest
from dilithion_ws.protocol.http_connection import HttpConnection, HttpLimits, HttpOutcome
from dilithion_ws.protocol.upgrade_fast_path import parse_usual_upgrade

from ..support import REQUEST, client_frame

LIMITS = HttpLimits(1000, "too large", body=1000, max_fields=12)
USUAL = [
    b"Host: localhost:8333",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
OTHER = [
    b"Origin: http://localhost",
    b"connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Authorization: Basic YTpi",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Expect: 100-continue",
    b"X-Empty:",
    b"X-Spaces:  a  b  ",
    b"X-Tab:\ta\t",
    b"X_Odd!: 1",
    b"X-High: \xe9",
    b"X-Control: \x01",
    b" folded",
    b"X : 1",
    b": 1",
    b"X",
    b"Host: other",
]


def slow(data: bytes) -> HttpOutcome | None:
    return HttpConnection(LIMITS).receive(data)


def fast(data: bytes) -> UpgradeRequest | None:
    return parse_usual_upgrade(data, LIMITS.head, LIMITS.max_fields)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return a request that is usual, or nearly so."""
    lines = draw(st.permutations(USUAL))
    lines = lines[: draw(st.integers(4, 5))] + draw(
        st.lists(st.sampled_from(OTHER) | st.sampled_from(USUAL), max_size=9)
    )
    target = draw(st.sampled_from([b"/", b"/?a=%20b", b"/wallet/x", b"http://a/", b"*", b"/\xe9", b"/a b", b""]))
    start = draw(st.sampled_from([b"GET ", b"GET ", b"GET ", b"get ", b"POST ", b"\r\nGET "]))
    version = draw(st.sampled_from([b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/1.1 "]))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    head = bytearray(end.join([start + target + version, *lines, b"", b""]))
    if draw(st.booleans()):
        head[draw(st.integers(0, len(head) - 1))] = draw(st.integers(0, 255))
    return bytes(head) + draw(st.sampled_from([b"", client_frame(1, b"x"), b"\r\n", b"GET / HTTP/1.1\r\n"]))


@settings(max_examples=500)
@given(requests())
def test_whatever_the_shortcut_reads_is_what_h11_reads(data: bytes) -> None:
    found = fast(data)
    if found is not None:
        expected = slow(data)
        assert expected == found
        assert isinstance(expected, UpgradeRequest)
        assert list(found.fields) == list(expected.fields)


@pytest.mark.parametrize("more", [[], *([line] for line in OTHER[:1] + OTHER[2:4])])
@pytest.mark.parametrize("trailing", [b"", client_frame(1, b"early")])
def test_the_requests_of_most_clients_take_it(more: list[bytes], trailing: bytes) -> None:
    data = b"\r\n".join([b"GET /?x=1 HTTP/1.1", *USUAL, *more, b"", b""]) + trailing
    found = fast(data)
    assert found is not None
    assert found == slow(data)
    assert (found.target, found.trailing) == ("/?x=1", trailing)


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:-1],
        REQUEST.replace(b"GET", b"HEAD"),
        REQUEST.replace(b"Version: 13", b"Version: 8"),
        REQUEST[:-2] + b"X: " + b"x" * 1000 + b"\r\n\r\n",
        REQUEST[:-2] + b"".join(b"X%d: 1\r\n" % number for number in range(12)) + b"\r\n",
        *(REQUEST[:-2] + line + b"\r\n\r\n" for line in OTHER[4:7] + OTHER[9:]),
    ],
)
def test_every_other_request_is_left_to_h11(data: bytes) -> None:
    assert fast(data) is None


def test_a_password_is_not_shown() -> None:
    data = REQUEST[:-2] + b"Authorization: Basic c2VjcmV0\r\n\r\n"
    for request in (fast(data), slow(data)):
        assert isinstance(request, UpgradeRequest)
        assert "c2VjcmV0" not in repr(request)
