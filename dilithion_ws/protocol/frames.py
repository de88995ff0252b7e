"""How frames look on the wire (RFC 6455 section 5.2): writing them, and reading a header.

This module knows single frames only; what a sequence of them means is `stream.py`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "SMALL_HEADERS",
    "TEXT",
    "FrameHeader",
    "close_frame",
    "close_payload",
    "frame",
    "parse_header",
    "split_close",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_REASON_SIZE = 123
"""A control frame carries 125 bytes at most (section 5.5), two of which are the close code."""

SMALL_HEADERS = [[bytes((0x80 | opcode, size)) for size in range(126)] for opcode in range(16)]
"""By opcode and size, the headers of frames of up to 125 bytes."""


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked, unfragmented frame, as a server sends it.

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
    """The payload of a close frame (section 5.5.1); the reason is cut at a character boundary to fit 123 bytes.

    Args:
        code: the status code; None makes an empty payload, which has no reason either.
        reason: text for a person.
    """
    if code is None:
        return b""
    text = reason.encode("utf-8", "replace")[:_REASON_SIZE].decode("utf-8", "ignore")
    return code.to_bytes(2, "big") + text.encode()


def close_frame(code: int | None, reason: str = "") -> bytes:
    """A close frame as a server sends it; see `close_payload`."""
    return frame(CLOSE, close_payload(code, reason))


def split_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close payload that was already checked; 1005 where it is empty (section 7.1.5)."""
    if not payload:
        return 1005, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class FrameHeader(NamedTuple):
    """A frame header.

    Attributes:
        first: FIN, reserved bits and opcode, as on the wire.
        masked: whether a masking key precedes the payload.
        length: payload bytes.
        size: bytes of the header itself, the masking key included.
        minimal: whether the length was written in the shortest form, as section 5.2 demands.
    """

    first: int
    masked: bool
    length: int
    size: int
    minimal: bool


def parse_header(data: bytes, at: int) -> FrameHeader | None:
    """Reads the header that begins at `data[at]`; None where bytes of it are still missing."""
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
