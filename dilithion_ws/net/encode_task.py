"""Encode an answer by a codec of the host, which may block: in the pool, never in the leading thread.

Answers of workers are encoded by them. What is left are refusals and errors for deadlines, which the leader would send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..session import Session
from ..util.enums import Speed, TaskKind

__all__ = ["EncodeTask"]


class EncodeTask:
    """Implements `Task`.

    Its connection is closed if the codec takes longer than a call may: then no answer can be sent. Messages that arrive
    meanwhile go on. Its kind has threads that calls which hang do not take.

    Args:
        session: the client.
        reply: the answer as JSON, which the worker encodes when it sends it.
        hooks: what to call once the answer was queued.
    """

    speed = Speed.SLOW
    is_serial = False
    kind = TaskKind.REQUEST
    timeout = None

    def __init__(self, session: Session, reply: bytes, hooks: Sequence[Callable[[bool], None]]) -> None:
        self.session = session
        self.hooks = hooks
        self._reply = reply

    def run(self) -> bytes:
        """Return the answer."""
        return self._reply

    def refuse(self, reason: str) -> None:
        """Return nothing: it would have to be encoded as well."""

    def expire(self) -> None:
        """Return nothing, for the same reason."""

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""
