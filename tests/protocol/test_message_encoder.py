from __future__ import annotations

from typing import Any

import pytest

from dilithion_ws.protocol.deflate import Deflater
from dilithion_ws.protocol.message_encoder import JSON, MessageEncoder, encode_message


class Upper:
    """A codec that shouts."""

    def __init__(self, binary: bool) -> None:
        self.binary = binary

    def encode(self, data: bytes) -> bytes:
        return data.upper()

    def decode(self, data: bytes) -> bytes:
        return data.lower()


@pytest.mark.parametrize("size", [0, 125, 126, 65536])
def test_json_is_sent_in_text_frames(size: int) -> None:
    frame = JSON.encode(b"x" * size)
    assert frame[0] == 0x81
    assert frame.endswith(b"x" * size)


@pytest.mark.parametrize(("binary", "first"), [(True, 0x82), (False, 0x81)])
def test_a_codec_decides_on_text_or_binary(binary: bool, first: int) -> None:
    assert MessageEncoder(Upper(binary)).encode(b"abc") == bytes([first, 3]) + b"ABC"


def test_long_messages_are_deflated_if_that_was_negotiated() -> None:
    encoder = MessageEncoder(None, Deflater(12, 6, 5, 100))
    assert encoder.encode(b"x" * 1000)[0] == 0xC1
    assert encoder.encode(b"x")[0] == 0x81
    assert encoder.encode_raw(2, b"x" * 1000)[0] == 0xC2
    assert JSON.encode_raw(2, b"x") == b"\x82\x01x"


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ("ü", b"\x81\x02\xc3\xbc"),
        (b"ab", b"\x82\x02ab"),
        (bytearray(b"ab"), b"\x82\x02ab"),
        (memoryview(b"a"), b"\x82\x01a"),
    ],
)
def test_messages_of_the_host_are_text_or_binary(message: Any, frame: bytes) -> None:
    assert encode_message(message) == frame


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="str or bytes, not int"):
        encode_message(5)  # type: ignore[arg-type]
