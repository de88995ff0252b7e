"""Single frames on the wire (RFC 6455 section 5.2): encode them, and parse their headers.

What a sequence of frames means is decided in `message_parser.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from ..errors import CloseStatus

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "SMALL_HEADERS",
    "TEXT",
    "FrameHeader",
    "close_payload",
    "encode_frame",
    "parse_close_payload",
    "parse_header",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_REASON_SIZE = 123
"""A control frame carries 125 bytes at most (section 5.5), two of which are the close code."""

SMALL_HEADERS = [[bytes((0x80 | opcode, size)) for size in range(126)] for opcode in range(16)]
"""Headers of frames of up to 125 bytes, by opcode and size."""


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked, unfragmented frame, as a server sends it.

    Args:
        opcode: the frame's opcode.
        payload: up to 125 bytes for a control frame.
    """
    size = len(payload)
    if size < 126:
        return SMALL_HEADERS[opcode][size] + payload
    if size < 65536:
        return b"%c\x7e%b%b" % (0x80 | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (0x80 | opcode, size.to_bytes(8, "big"), payload)


def close_payload(code: int | None, reason: str = "") -> bytes:
    """Return the payload of a close frame (section 5.5.1). The reason is cut at a character boundary to fit 123 bytes.

    Args:
        code: the status code, or None for an empty payload.
        reason: text for people.
    """
    if code is None:
        return b""
    text = reason.encode("utf-8", "replace")[:_REASON_SIZE].decode("utf-8", "ignore")
    return code.to_bytes(2, "big") + text.encode()


def parse_close_payload(payload: bytes) -> CloseStatus:
    """Return code and reason of a valid close payload; 1005 if it is empty (section 7.1.5)."""
    if not payload:
        return CloseStatus(1005, "")
    return CloseStatus(int.from_bytes(payload[:2], "big"), payload[2:].decode())


class FrameHeader(NamedTuple):
    """A frame header.

    Attributes:
        first: FIN, reserved bits and opcode, as on the wire.
        masked: whether a masking key precedes the payload.
        length: payload bytes.
        size: bytes of the header itself, the masking key included.
        minimal: whether the length has its shortest form, as section 5.2 requires.
    """

    first: int
    masked: bool
    length: int
    size: int
    minimal: bool


def parse_header(data: bytes, at: int) -> FrameHeader | None:
    """Parse the header that begins at `data[at]`. Return None if bytes of it are missing."""
    available = len(data) - at
    if available < 2:
        return None
    second = data[at + 1]
    masked, length, extra, minimal = second >= 0x80, second & 0x7F, 0, True
    if length >= 126:
        extra = 2 if length == 126 else 8
        if available < 2 + extra:
            return None
        short = length
        length = int.from_bytes(data[at + 2 : at + 2 + extra], "big")
        minimal = length >= 126 if short == 126 else 65536 <= length < 1 << 63
    size = 2 + extra + (4 if masked else 0)
    return FrameHeader(data[at], masked, length, size, minimal) if available >= size else None
