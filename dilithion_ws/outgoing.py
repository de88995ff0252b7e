"""What a host sends, as frames."""

from __future__ import annotations

from .protocol.frames import BINARY, TEXT, frame

__all__ = ["Message", "encode_message", "text_frame"]

Message = str | bytes
"""What `send` and `broadcast` take: a text or a binary message."""


def encode_message(message: Message) -> bytes:
    """The frame of a message; raises TypeError where it is neither text nor bytes."""
    if isinstance(message, str):
        return text_frame(message.encode())
    if isinstance(message, (bytes, bytearray, memoryview)):
        return frame(BINARY, bytes(message))
    raise TypeError(f"a message is str or bytes, not {type(message).__name__}")


def text_frame(payload: bytes) -> bytes:
    """The frame of a text message."""
    return frame(TEXT, payload)
