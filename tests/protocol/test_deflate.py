"""permessage-deflate: what is agreed on, and what becomes of messages; the faults of wsproto's own among it."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.deflate import Deflater, accept_offers
from dilithion_ws.protocol.frames import BINARY, CONTINUATION, PING, TEXT
from dilithion_ws.protocol.message_parser import PROTOCOL_ERROR

from ..support import client_frame
from ..support.parsing import Event, TupleParser

PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
RSV1 = 4
LIMIT = 100_000


@pytest.mark.parametrize(
    ("header", "answer"),
    [
        ("permessage-deflate", PLAIN),
        ("Permessage-Deflate", PLAIN),
        ("x-other; a=b, permessage-deflate", PLAIN),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", PLAIN),
        ("permessage-deflate; client_max_window_bits", PLAIN + "; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=10", PLAIN + "; client_max_window_bits=10"),
        ("permessage-deflate; client_max_window_bits=15", PLAIN + "; client_max_window_bits=12"),
        ("permessage-deflate; client_max_window_bits=8", PLAIN + "; client_max_window_bits=8"),
        ('permessage-deflate; server_max_window_bits="10"', PLAIN + "; server_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=15", PLAIN + "; server_max_window_bits=12"),
        ("permessage-deflate ;\tserver_max_window_bits = 9 ", PLAIN + "; server_max_window_bits=9"),
        # Declined, and the next one tried:
        ("permessage-deflate; client_max_window_bits=abc, permessage-deflate", PLAIN),
        ('permessage-deflate; x="a, b", permessage-deflate', PLAIN),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", PLAIN),
        ("permessage-deflate; a=; b, permessage-deflate", PLAIN),
        (", ,permessage-deflate", PLAIN),
        # Declined:
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=08", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
        ("permessage-deflate; client_max_window_bits=10; client_max_window_bits=10", None),
        ('permessage-deflate; server_max_window_bits="10', None),
        ("permessage-deflate-ish", None),
        ("", None),
    ],
)
def test_offers(header: str, answer: str | None) -> None:
    agreement = accept_offers(header, 12)
    assert (agreement.answer if agreement else None) == answer


@given(st.text(st.sampled_from('permessage-deflate;,= "\\1_8bits'), max_size=80))
def test_whatever_is_offered_has_an_answer(header: str) -> None:
    for offers in (header, "permessage-deflate;" + header):
        agreement = accept_offers(offers, 12)
        assert agreement is None or agreement.answer.startswith("permessage-deflate")


def deflated(payload: bytes, window: int = 15, *, final: bool = False) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -window)
    if final:
        return compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def feed(data: bytes, window: int = 15, limit: int = LIMIT, step: int = 0) -> list[Event]:
    stream = TupleParser(limit, "too big", window)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    return [event for piece in pieces for event in stream.receive(piece)]


@given(st.binary(max_size=3000), st.integers(0, 200), st.lists(st.integers(0, 400), max_size=4), st.booleans())
def test_messages_come_out_as_they_went_in(payload: bytes, step: int, cuts: list[int], text: bool) -> None:
    if text:
        payload = payload.decode("latin-1").encode()
    opcode, small = TEXT if text else BINARY, deflated(payload)
    at = sorted({cut for cut in cuts if cut < len(small)})
    parts = [small[begin:end] for begin, end in zip([0, *at], [*at, len(small)], strict=True)]
    frames = b""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        rsv = 0 if number else RSV1
        frames += client_frame(CONTINUATION if number else opcode, part, fin=last, rsv=rsv) + client_frame(PING, b"p")
    events = [event for event in feed(frames * 2, step=step) if event[0] != PING]
    assert events == [(opcode, payload)] * 2


@given(st.binary(max_size=5000), st.integers(9, 15), st.integers(1, 9), st.integers(1, 9))
def test_what_we_deflate_can_be_inflated(payload: bytes, window: int, level: int, memory: int) -> None:
    frame = Deflater(window, level, memory, 0).encode_frame(BINARY, payload)
    size = frame[1] & 0x7F
    body = frame[{126: 4, 127: 10}.get(size, 2) :]
    if frame[0] & 0x40:
        assert zlib.decompress(body + b"\x00\x00\xff\xff\x03\x00", -window) == payload
        assert len(body) < len(payload)
    else:
        assert body == payload


def test_small_messages_stay_as_they_are() -> None:
    assert Deflater(12, 1, 5, 1000).encode_frame(TEXT, b"a" * 999)[0] == 0x81
    assert Deflater(12, 1, 5, 1000).encode_frame(TEXT, b"a" * 1000)[0] == 0xC1


@pytest.mark.parametrize(
    "payload", [b" " * (1 << 20), b"".join(b"%d," % number for number in range(100_000))], ids=["a bomb", "numbers"]
)
def test_one_call_inflates_a_bounded_part(payload: bytes) -> None:
    machine = TupleParser(1 << 21, "too big", 15, max_frames=32)
    events = machine.receive(client_frame(TEXT, deflated(payload), rsv=RSV1) + client_frame(TEXT, b"next"))
    calls = 1
    while machine.has_more:
        events += machine.receive(b"")
        calls += 1
    assert events == [(TEXT, payload), (TEXT, b"next")]
    most = 1032 * 128  # zlib's best ratio, and a piece
    assert calls > len(payload) / (most + 32 * 1024)


def test_plain_and_deflated_messages_mix() -> None:
    data = client_frame(TEXT, b"one") + client_frame(TEXT, deflated(b"two"), rsv=RSV1) + client_frame(BINARY, b"three")
    assert feed(data) == [(TEXT, b"one"), (TEXT, b"two"), (BINARY, b"three")]
    fragmented = client_frame(TEXT, b"fo", fin=False) + client_frame(CONTINUATION, b"ur")
    assert feed(fragmented + client_frame(TEXT, deflated(b"five"), rsv=RSV1)) == [(TEXT, b"four"), (TEXT, b"five")]


# The four faults of wsproto's own


def test_a_bomb_is_inflated_up_to_the_limit_and_no_further() -> None:
    bomb = deflated(b"\x00" * 10_000_000)
    assert len(bomb) < 10_000
    events = feed(client_frame(BINARY, bomb, rsv=RSV1))
    assert events == [(PROTOCOL_ERROR, (1009).to_bytes(2, "big") + b"too big")]
    pieces = [bomb[at : at + 100] for at in range(0, len(bomb), 100)]
    frames = [client_frame(BINARY, pieces[0], fin=False, rsv=RSV1)]
    frames += [client_frame(CONTINUATION, piece, fin=False) for piece in pieces[1:]]
    assert feed(b"".join(frames))[-1] == (PROTOCOL_ERROR, (1009).to_bytes(2, "big") + b"too big")
    assert feed(client_frame(BINARY, deflated(b"x" * LIMIT), rsv=RSV1)) == [(BINARY, b"x" * LIMIT)]
    over = feed(client_frame(BINARY, deflated(b"x" * (LIMIT + 1)), rsv=RSV1))
    assert over[0][0] == PROTOCOL_ERROR


def test_a_ping_between_fragments_does_not_disturb_the_rest() -> None:
    small = deflated(b"hello hello hello")
    data = (
        client_frame(TEXT, small[:4], fin=False, rsv=RSV1)
        + client_frame(PING, b"are you there")
        + client_frame(CONTINUATION, small[4:])
    )
    assert feed(data) == [(PING, b"are you there"), (TEXT, b"hello hello hello")]


@pytest.mark.parametrize("window", [9, 12, 15])
def test_a_final_block_is_not_the_end(window: int) -> None:
    """RFC 7692 section 7.2.3.4 and 7.2.3.5."""
    once = deflated(b"Hello", window, final=True)
    data = client_frame(TEXT, once + b"\x00", rsv=RSV1)
    twice = client_frame(TEXT, once + deflated(b" World", window), rsv=RSV1)
    assert feed(data + twice + data, window) == [(TEXT, b"Hello"), (TEXT, b"Hello World"), (TEXT, b"Hello")]


def test_the_examples_of_the_standard() -> None:
    """RFC 7692 section 7.2.3."""
    one = bytes.fromhex("f248cdc9c90700")
    blocks = bytes.fromhex("f24805000000ffffcac9c90700")
    stored = bytes.fromhex("000500faff48656c6c6f00")
    final = bytes.fromhex("f348cdc9c9070000")
    for payload in (one, blocks, stored, final):
        assert feed(client_frame(TEXT, payload, rsv=RSV1)) == [(TEXT, b"Hello")]
        assert feed(client_frame(TEXT, payload, rsv=RSV1), step=1) == [(TEXT, b"Hello")]
    parts = client_frame(TEXT, one[:3], fin=False, rsv=RSV1) + client_frame(CONTINUATION, one[3:])
    assert feed(parts) == [(TEXT, b"Hello")]


@pytest.mark.parametrize(
    "data",
    [
        client_frame(TEXT, deflated(b"x")[:1] + b"\xff\xff\xff", rsv=RSV1),  # no deflate stream
        client_frame(CONTINUATION, b"x", rsv=RSV1),
        client_frame(PING, b"x", rsv=RSV1),
        client_frame(TEXT, b"x", rsv=2),
        client_frame(TEXT, b"x", rsv=RSV1 | 1),
        client_frame(TEXT, deflated(b"x"), fin=False, rsv=RSV1) + client_frame(CONTINUATION, b"x", rsv=RSV1),
        client_frame(TEXT, deflated(b"\xff"), rsv=RSV1),  # no UTF-8
    ],
)
def test_what_breaks_the_rules_is_refused(data: bytes) -> None:
    kind, payload = feed(data)[-1]
    assert kind == PROTOCOL_ERROR
    assert int.from_bytes(payload[:2], "big") in (1002, 1007)


def test_deflated_messages_that_were_not_agreed_on_are_refused() -> None:
    kind, payload = feed(client_frame(TEXT, deflated(b"x"), rsv=RSV1), window=0)[-1]
    assert (kind, int.from_bytes(payload[:2], "big")) == (PROTOCOL_ERROR, 1002)


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=6), st.integers(9, 15), st.integers(0, 50))
def test_a_client_that_keeps_its_context_is_understood(payloads: list[bytes], window: int, step: int) -> None:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -window)
    frames, expected = b"", []
    for payload in [*payloads, *payloads]:  # the second time they are references to the first
        small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        frames += client_frame(BINARY, small.removesuffix(b"\x00\x00\xff\xff"), rsv=RSV1)
        frames += client_frame(BINARY, b"plain messages have no part in it")
        expected += [(BINARY, payload), (BINARY, b"plain messages have no part in it")]
    assert feed(frames, window, step=step) == expected


def test_what_is_kept_for_such_a_client_is_one_window() -> None:
    parser = TupleParser(1 << 20, "too big", 10)
    for number in range(20):
        parser.receive(client_frame(BINARY, deflated(bytes([number]) * 100_000, 10), rsv=RSV1))
        assert len(parser._recent) == 1024


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_block_after_a_final_one_may_refer_to_all_of_the_message(step: int) -> None:
    earlier, first = b"OLD-DATA" * 3000, b"pay alice 5 coins, and bob 7 of them. " * 20
    second_stream = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=earlier + first)
    rest = (second_stream.compress(first) + second_stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    small = deflated(first, final=True) + rest
    frames = client_frame(BINARY, deflated(earlier), rsv=RSV1)
    frames += client_frame(BINARY, small[:10], fin=False, rsv=RSV1) + client_frame(CONTINUATION, small[10:])
    assert feed(frames, limit=1 << 20, step=step) == [(BINARY, earlier), (BINARY, first * 2)]
