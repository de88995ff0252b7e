"""What a host sends, as frames."""

from __future__ import annotations

from .protocol.frames import BINARY, TEXT, frame
from .protocol.message_encoder import MessageEncoder

__all__ = ["Message", "encode_message", "event_frame"]

Message = str | bytes
"""What `send` and `broadcast` take: a text or a binary message."""


def encode_message(message: Message) -> bytes:
    """The frame of a message; raises TypeError where it is neither text nor bytes."""
    if isinstance(message, str):
        return frame(TEXT, message.encode())
    if isinstance(message, (bytes, bytearray, memoryview)):
        return frame(BINARY, bytes(message))
    raise TypeError(f"a message is str or bytes, not {type(message).__name__}")


def event_frame(payload: bytes, framing: MessageEncoder) -> bytes:
    """The frame of an event."""
    return framing.frame(payload)
