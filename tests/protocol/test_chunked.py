"""The strict check of chunked bodies, beside h11, which decides what is in them."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.chunked import ChunkedChecker
from dilithion_ws.protocol.http import HttpHead, HttpRefusal, HttpRequest
from dilithion_ws.protocol.http_connection import HttpConnection, HttpLimits

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = HttpLimits(head=2000, head_too_large="", body=1000, body_too_large="")


def chunked(parts: list[bytes], extension: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part)
    return chunks + b"0\r\n\r\n"


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(at)]


def feed(pieces: list[bytes]) -> HttpRequest | HttpRefusal | None:
    """Pass pieces to a connection. Return the request, the refusal, or None if more is needed."""
    http = HttpConnection(LIMITS)
    for piece in pieces:
        outcome = http.receive(piece)
        while isinstance(outcome, HttpHead) and not isinstance(outcome, HttpRequest):
            outcome = http.accept_body()
        while outcome is None and http.has_more:
            outcome = http.receive(b"")
        if outcome is not None:
            assert isinstance(outcome, (HttpRequest, HttpRefusal))
            return outcome
    return None


@given(st.lists(st.binary(max_size=40)), st.sampled_from([b"", b";a=b", b'; x="y"']), st.lists(st.integers(0, 500)))
def test_bodies_are_accepted_in_any_pieces(parts: list[bytes], extension: bytes, cuts: list[int]) -> None:
    body = chunked(parts, extension)
    outcome = feed(in_pieces(HEAD + body, cuts))
    assert isinstance(outcome, HttpRequest)
    assert outcome.body == b"".join(parts)
    checker = ChunkedChecker()
    assert all(checker.check(piece) == len(piece) for piece in in_pieces(body, cuts))
    assert checker.is_done


BAD = [
    b"3\nabc\r\n0\r\n\r\n",
    b"3\r\nabc\n0\r\n\r\n",
    b"3\r\nabcd\r\n0\r\n\r\n",
    b"3\r\nabc\r\n0\n\r\n",
    b"3\r\nabc\r\n0\r\n\n",
    b"3\r\nabc\r\n0\r\nX: a\r\n\r\n",
    b"3\r\nabc\r\n0\r\nX: a\n\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    b"3;a\0b\r\nabc\r\n0\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"+3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"3_0\r\nabc\r\n0\r\n\r\n",
    b" 3\r\nabc\r\n0\r\n\r\n",
    b"\r\n3\r\nabc\r\n0\r\n\r\n",
    b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    b"3" + b" " * 300 + b"\r\nabc\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("body", BAD)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_what_two_parsers_may_read_differently_is_refused(body: bytes, size: int) -> None:
    data = HEAD + body
    outcome = feed([data[at : at + size] for at in range(0, len(data), size)])
    assert isinstance(outcome, HttpRefusal)
    assert outcome.status == 400


@given(st.binary(max_size=60), st.lists(st.integers(0, 100)))
def test_the_verdict_does_not_depend_on_the_pieces(body: bytes, cuts: list[int]) -> None:
    whole, pieces = ChunkedChecker(), ChunkedChecker()
    expected = whole.check(body) >= 0
    assert all(pieces.check(piece) >= 0 for piece in in_pieces(body, cuts)) is expected
    assert whole.is_done is pieces.is_done or not expected


@given(st.binary(max_size=60) | st.lists(st.binary(max_size=9)).map(chunked), st.integers(1, 5))
def test_the_verdict_does_not_depend_on_how_much_is_looked_at(body: bytes, max_lines: int) -> None:
    whole, stepwise = ChunkedChecker(), ChunkedChecker()
    expected, rest = whole.check(body), body
    while (size := stepwise.check(rest, max_lines)) > 0:
        rest = rest[size:]
    assert (size < 0) is (expected < 0)
    assert whole.is_done is stepwise.is_done or expected < 0


@given(st.lists(st.sampled_from([b"3\r\n", b"abc", b"\r\n", b"0\r\n", b"\n", b";x", b"5\r\nabcde\r\n"]), max_size=8))
def test_a_body_that_ends_here_ends_there_for_h11(pieces: list[bytes]) -> None:
    body, checker = b"".join(pieces), ChunkedChecker()
    if checker.check(body) < 0 or not checker.is_done:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + body)
    events = []
    while not events or not isinstance(events[-1], h11.EndOfMessage):
        events.append(connection.next_event())
        assert events[-1] is not h11.NEED_DATA
