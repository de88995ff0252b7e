from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.protocol.frames import (
    BINARY,
    CLOSE,
    TEXT,
    close_payload,
    encode_frame,
    parse_close_payload,
    parse_header,
)
from dilithion_ws.protocol.masking import unmask, unmask_in_python

from ..support import client_frame, mask


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_server_frame_has_the_shortest_length_and_no_mask(size: int) -> None:
    data = encode_frame(BINARY, b"x" * size)
    header = parse_header(data + b"following", 0)
    assert header is not None
    assert (header.first, header.masked, header.length, header.minimal) == (0x82, False, size, True)
    assert data[header.size :] == b"x" * size


@pytest.mark.parametrize("size", [0, 125, 126, 65536])
def test_a_header_is_read_only_when_it_is_whole(size: int) -> None:
    data = client_frame(TEXT, b"y" * size)
    header = parse_header(data, 0)
    assert header is not None
    assert header.masked
    assert header.length == size
    for cut in range(header.size):
        assert parse_header(data[:cut], 0) is None


@pytest.mark.parametrize(
    ("data", "minimal"),
    [
        (b"\x81\xfe\x00\x7d1234", False),
        (b"\x81\xfe\x00\x7e1234", True),
        (b"\x81\xff" + (65535).to_bytes(8, "big") + b"1234", False),
        (b"\x81\xff" + (1 << 63).to_bytes(8, "big") + b"1234", False),
    ],
)
def test_a_length_longer_than_needed_shows(data: bytes, minimal: bool) -> None:
    header = parse_header(data, 0)
    assert header is not None
    assert header.minimal is minimal


@given(st.integers(1000, 4999), st.text())
def test_a_close_frame_fits_a_control_frame_and_stays_utf8(code: int, reason: str) -> None:
    payload = close_payload(code, reason)
    assert len(payload) <= 125
    assert parse_close_payload(payload)[0] == code
    assert reason.encode("utf-8", "replace").decode().startswith(parse_close_payload(payload)[1])


def test_a_close_without_a_code_is_empty_and_reads_as_1005() -> None:
    assert encode_frame(CLOSE, close_payload(None)) == bytes((0x80 | CLOSE, 0))
    assert parse_close_payload(b"") == (1005, "")


@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
def test_all_ways_to_unmask_agree(payload: bytes, key: bytes) -> None:
    expected = mask(payload, key)
    assert unmask_in_python(payload, key) == expected
    assert bytes(unmask(payload, key)) == expected
