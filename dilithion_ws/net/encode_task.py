"""Encode a message by a codec of the host in the leading thread, as a task that the watchdog supervises.

Answers of workers are encoded by them. What is left for the leader are refusals and answers after a deadline.
"""

from __future__ import annotations

from ..protocol.frames import BINARY, TEXT
from ..protocol.message_encoder import MessageEncoder
from ..session import Session
from ..util.enums import Speed, TaskKind
from .interfaces import RawReply, Reply

__all__ = ["EncodeTask"]


class EncodeTask:
    """Implements `Task`.

    Args:
        session: the client.
        encoder: of its connection, with a codec.
        reply: an answer as JSON.
    """

    speed = Speed.MEASURED_FAST
    is_serial = False
    kind = TaskKind.CALL
    hooks = None

    def __init__(self, session: Session, encoder: MessageEncoder, reply: bytes) -> None:
        self.session = session
        self._encoder = encoder
        self._reply = reply

    def run(self) -> Reply | None:
        """Encode it."""
        codec = self._encoder.codec
        assert codec is not None
        return RawReply(BINARY if codec.binary else TEXT, codec.encode(self._reply))

    def refuse(self, reason: str) -> None:
        """Return nothing: the codec has failed, so no other answer can be encoded either."""

    def expire(self) -> None:
        """Return nothing, for the same reason."""

    def on_stall(self) -> None:
        """Do nothing."""
