"""How the messages of one connection leave: text or an encoding of its own, deflated or not. Shared by all alike."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .deflate import Deflater
from .frames import BINARY, TEXT, frame

__all__ = ["JSON", "Codec", "MessageEncoder"]


class Codec(Protocol):
    """Another encoding of what JSON says.

    Attributes:
        binary: whether its messages are binary ones.
    """

    binary: bool

    def encode(self, data: bytes) -> bytes:
        """From JSON to the encoding."""

    def decode(self, data: bytes) -> bytes:
        """From the encoding to JSON; raises ValueError where it is malformed."""


class MessageEncoder(NamedTuple):
    """What was negotiated for messages of a server.

    Attributes:
        codec: their encoding; None for JSON.
        deflation: how they are deflated; None where they are not.
    """

    codec: Codec | None = None
    deflation: Deflater | None = None

    def frame(self, payload: bytes) -> bytes:
        """The frame of a JSON payload."""
        codec = self.codec
        if codec is None:
            return self.raw(TEXT, payload)
        return self.raw(BINARY if codec.binary else TEXT, codec.encode(payload))

    def raw(self, opcode: int, payload: bytes) -> bytes:
        """The frame of a message that is sent as it is."""
        return frame(opcode, payload) if self.deflation is None else self.deflation.frame(opcode, payload)


JSON = MessageEncoder()
"""Plain JSON in text messages."""
