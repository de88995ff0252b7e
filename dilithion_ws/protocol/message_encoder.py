"""Encode the messages of one connection: as text or by a codec, compressed or not."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .deflate import Deflater
from .frames import BINARY, SMALL_HEADERS, TEXT, encode_frame

__all__ = ["JSON", "Codec", "Message", "MessageEncoder", "encode_message"]

Message = str | bytes
"""A text or a binary message, as `WebSocketServer.send` takes it."""

_TEXT_HEADERS = SMALL_HEADERS[TEXT]


class Codec(Protocol):
    """Another encoding of JSON values.

    Attributes:
        binary: whether its messages are binary.
    """

    binary: bool

    def encode(self, data: bytes) -> bytes:
        """Convert JSON to the encoding."""

    def decode(self, data: bytes) -> bytes:
        """Convert the encoding to JSON. Raise ValueError if it is malformed."""


class MessageEncoder(NamedTuple):
    """What was negotiated for the messages of the server. Connections with equal encoders get the same frames.

    Attributes:
        codec: their encoding, or None for JSON.
        deflater: how they are compressed, or None.
        is_host_code: whether the codec is code of the host, which may block.
    """

    codec: Codec | None = None
    deflater: Deflater | None = None
    is_host_code: bool = False

    def encode(self, payload: bytes) -> bytes:
        """Return the frame of a JSON payload."""
        codec = self.codec
        if codec is None:
            if self.deflater is None:
                size = len(payload)
                return _TEXT_HEADERS[size] + payload if size < 126 else encode_frame(TEXT, payload)
            return self.deflater.encode_frame(TEXT, payload)
        return self.encode_raw(BINARY if codec.binary else TEXT, codec.encode(payload))

    def encode_raw(self, opcode: int, payload: bytes) -> bytes:
        """Return the frame of a message whose payload is sent as it is."""
        return encode_frame(opcode, payload) if self.deflater is None else self.deflater.encode_frame(opcode, payload)


JSON = MessageEncoder()
"""JSON in text messages, not compressed."""


def encode_message(message: Message) -> bytes:
    """Return the frame of a message. Raise TypeError if it is neither text nor bytes."""
    if isinstance(message, str):
        return encode_frame(TEXT, message.encode())
    if isinstance(message, (bytes, bytearray, memoryview)):
        return encode_frame(BINARY, bytes(message))
    raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
