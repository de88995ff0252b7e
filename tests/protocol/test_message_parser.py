"""The short path and wsproto, fed the same bytes, must say the same."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dilithion_ws.protocol.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    parse_close_payload,
)
from dilithion_ws.protocol.wsproto_adapter import PROTOCOL_ERROR, WsprotoAdapter

from ..support import client_frame
from ..support.parsing import Event, TupleParser

LIMIT = 1 << 20


def stream() -> TupleParser:
    return TupleParser(LIMIT, "too big")


def feed(data: bytes, cuts: list[int]) -> list[Event]:
    """What the stream makes of the bytes, cut at these places."""
    machine, events, before = stream(), [], 0
    for cut in [*sorted({min(cut, len(data)) for cut in cuts}), len(data)]:
        events += machine.receive(data[before:cut])
        before = cut
    return events


def reference(data: bytes) -> list[Event]:
    """What wsproto alone makes of them."""
    events = []
    for event in WsprotoAdapter().feed(data):
        events.append((event.kind, event.payload))
        if event.kind in (CLOSE, PROTOCOL_ERROR):
            break
    return events


def comparable(events: list[Event]) -> list[tuple[int, object]]:
    """Reasons are for people and differ; everything else must not."""
    return [(kind, parse_close_payload(payload)[0] if kind == PROTOCOL_ERROR else payload) for kind, payload in events]


texts = st.text(max_size=40).map(str.encode)
payloads = st.one_of(texts, st.binary(max_size=140), st.integers(120, 400).map(lambda size: b"z" * size))
keys = st.one_of(st.binary(min_size=4, max_size=4), st.just(b"\0\0\0\0"))
close_payloads = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.builds(close_payload, st.integers(0, 5000).filter(lambda code: code != 1014), st.text(max_size=20)),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A valid message, in one frame or in fragments with pings between."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(texts if opcode == TEXT else payloads)
    pieces = draw(st.integers(1, 3))
    size = len(payload) // pieces + 1
    data = b""
    for at in range(pieces):
        piece = payload[at * size : (at + 1) * size]
        data += client_frame(opcode if at == 0 else CONTINUATION, piece, fin=at == pieces - 1, key=draw(keys))
        if at < pieces - 1 and draw(st.booleans()):
            data += client_frame(draw(st.sampled_from([PING, PONG])), draw(st.binary(max_size=20)), key=draw(keys))
    return data


frames = st.builds(
    client_frame,
    st.sampled_from([CONTINUATION, TEXT, BINARY, 3, 7, PING, PONG, 0xB]),
    payloads,
    fin=st.sampled_from([True, True, True, False]),
    rsv=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 4]),
    key=st.one_of(keys, keys, keys, st.none()),
)
closes = st.builds(client_frame, st.just(CLOSE), close_payloads, key=keys)
traffic = st.lists(st.one_of(messages(), messages(), frames, closes, st.binary(max_size=10)), max_size=6).map(b"".join)


@given(traffic, st.lists(st.integers(0, 600), max_size=8))
@example(client_frame(TEXT, "κόσμε".encode()), [7, 8, 9])
@example(client_frame(TEXT, b"\xce\xba\xed\xa0\x80edited"), [8])
@example(client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), [])
@example(b"\x81\xfe\x00\x05" + b"1234hello", [3])
@example(client_frame(PING, b"x" * 126), [])
def test_the_short_path_equals_wsproto(data: bytes, cuts: list[int]) -> None:
    assert comparable(feed(data, cuts)) == comparable(reference(data))


@given(traffic)
def test_byte_by_byte_equals_all_at_once(data: bytes) -> None:
    assert comparable(feed(data, list(range(len(data))))) == comparable(feed(data, []))


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_random_bytes_never_raise(data: bytes, cuts: list[int]) -> None:
    assert comparable(feed(data, cuts)) == comparable(reference(data))


@given(traffic, st.lists(st.integers(0, 600), max_size=8), st.integers(1, 3))
def test_a_parser_that_pauses_returns_the_same_events(data: bytes, cuts: list[int], max_frames: int) -> None:
    machine, events, before = TupleParser(LIMIT, "too big", 0, max_frames), [], 0
    for cut in [*sorted({min(cut, len(data)) for cut in cuts}), len(data)]:
        events += machine.receive(data[before:cut])
        before = cut
    while machine.has_more:
        found = machine.receive(b"")
        assert len(found) <= max_frames
        events += found
    assert comparable(events) == comparable(feed(data, cuts))


def test_one_call_parses_a_bounded_number_of_fragments() -> None:
    machine = TupleParser(LIMIT, "too big", 0, max_frames=10)
    assert machine.receive(client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False) * 25) == []
    counts = [machine.fragments]
    while machine.has_more:
        assert machine.receive(b"") == []
        counts.append(machine.fragments)
    assert counts == [2 * at for at in range(1, 14)], "a fragment counts as eight frames"


def test_before_the_login_a_message_has_one_frame_and_few_bytes() -> None:
    def strict() -> TupleParser:
        return TupleParser(200, "too big", 0, 1, "log in first")

    assert strict().receive(client_frame(TEXT, b"x" * 200)) == [(TEXT, b"x" * 200)]
    assert parse_close_payload(strict().receive(client_frame(TEXT, b"x" * 201)[:8])[0][1]) == (1009, "too big")
    (refusal,) = strict().receive(client_frame(TEXT, b"x", fin=False))
    assert refusal[0] == PROTOCOL_ERROR
    assert parse_close_payload(refusal[1]) == (1008, "log in first")


def test_what_follows_a_login_is_parsed_after_it() -> None:
    machine = TupleParser(200, "too big", 0, 1, "log in first")
    large = client_frame(TEXT, b"x" * 300) + client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"b")
    assert machine.receive(client_frame(TEXT, b"login") + large) == [(TEXT, b"login")]
    assert machine.has_more
    machine.lift(1000, "too big", 10)
    assert machine.receive(b"") == [(TEXT, b"x" * 300), (TEXT, b"ab")]


def test_a_message_in_one_frame() -> None:
    assert stream().receive(client_frame(TEXT, b"hello")) == [(TEXT, b"hello")]


@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536, 200_000])
def test_every_form_of_length(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    data = client_frame(BINARY, payload[:size])
    assert feed(data, []) == [(BINARY, payload[:size])]
    assert feed(data, [1, 5, 13, 14, 15, 1000, 70_001]) == [(BINARY, payload[:size])]


def test_control_frames_between_fragments_come_at_once() -> None:
    machine = stream()
    assert machine.receive(client_frame(TEXT, b"he", fin=False)) == []
    assert machine.receive(client_frame(PING, b"?")) == [(PING, b"?")]
    assert machine.receive(client_frame(CONTINUATION, b"llo")) == [(TEXT, b"hello")]


def test_bad_utf8_is_refused_as_it_arrives() -> None:
    data = client_frame(TEXT, b"ab\xff" + b"c" * 100_000)
    machine = stream()
    events = machine.receive(data[:20])
    assert [(kind, parse_close_payload(payload)[0]) for kind, payload in events] == [(PROTOCOL_ERROR, 1007)]


def test_a_text_that_ends_inside_a_character_is_refused() -> None:
    data = client_frame(TEXT, "é".encode()[:1] + b"")
    for cuts in ([], [7]):
        assert comparable(feed(data, cuts)) == [(PROTOCOL_ERROR, 1007)]


def test_a_message_past_the_limit_is_refused_by_its_header() -> None:
    machine = TupleParser(1000, "message size limit of 1000 bytes")
    events = machine.receive(client_frame(TEXT, b"x" * 1001)[:8])
    assert events == [(PROTOCOL_ERROR, close_payload(1009, "message size limit of 1000 bytes"))]
    assert machine.ended


def test_fragments_count_together_against_the_limit() -> None:
    machine = TupleParser(1000, "too big")
    assert machine.receive(client_frame(TEXT, b"x" * 600, fin=False)) == []
    events = machine.receive(client_frame(CONTINUATION, b"x" * 600))
    assert comparable(events) == [(PROTOCOL_ERROR, 1009)]
    machine = TupleParser(1000, "too big")
    for _ in range(3):  # each message has a count of its own
        assert machine.receive(client_frame(TEXT, b"x" * 600, fin=False)) == []
        assert machine.receive(client_frame(CONTINUATION, b"x" * 400)) == [(TEXT, b"x" * 1000)]


def test_a_length_of_2_to_the_62_is_refused_without_memory() -> None:
    assert comparable(stream().receive(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + b"1234")) == [
        (PROTOCOL_ERROR, 1009)
    ]


def test_empty_fragments_take_no_memory() -> None:
    machine = stream()
    machine.receive(client_frame(TEXT, b"a", fin=False))
    empty = client_frame(CONTINUATION, b"", fin=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(20):
            assert machine.receive(empty) == []
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert machine.receive(client_frame(CONTINUATION, b"b")) == [(TEXT, b"ab")]


def test_a_continuation_of_nothing_is_a_protocol_error_whatever_its_length() -> None:
    header = b"\x80\xff" + (1 << 50).to_bytes(8, "big") + b"abcdefgh"
    assert comparable(stream().receive(header)) == [(PROTOCOL_ERROR, 1002)]


def test_nothing_is_heard_after_a_close() -> None:
    machine = stream()
    events = machine.receive(client_frame(CLOSE, close_payload(1000, "bye")) + client_frame(TEXT, b"late"))
    assert events == [(CLOSE, close_payload(1000, "bye"))]
    assert machine.receive(client_frame(TEXT, b"later")) == []


def test_the_registered_close_code_1014_is_accepted() -> None:
    assert feed(client_frame(CLOSE, close_payload(1014, "gateway")), [4]) == [(CLOSE, close_payload(1014, "gateway"))]


def test_wsproto_lives_for_the_length_of_a_fragmented_message_only() -> None:
    machine = stream()
    machine.receive(client_frame(TEXT, b"a") + client_frame(PING, b"") + client_frame(BINARY, b"b" * 500))
    assert machine._wsproto is None
    machine.receive(client_frame(TEXT, b"a", fin=False))
    assert machine._wsproto is not None
    machine.receive(client_frame(CONTINUATION, b"a"))
    assert machine._wsproto is None
