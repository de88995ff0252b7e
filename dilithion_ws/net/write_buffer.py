"""Bytes that a client has not taken yet; it exists only while there are some."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["WriteBuffer"]

_JOIN_BELOW = 65536
"""Small pieces are sent together up to this size: fewer system calls, and no large copies."""


class WriteBuffer:
    """A queue of bytes in the order in which they must leave.

    Attributes:
        size: bytes in it.
        progress_at: when the client last took any; seconds of the server's clock.
    """

    __slots__ = ("_pieces", "progress_at", "size")

    def __init__(self, now: float) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.progress_at = now

    def append(self, data: bytes | memoryview) -> None:
        """Puts bytes behind the others."""
        self._pieces.append(data)
        self.size += len(data)

    def drain(self, send: Callable[[bytes | memoryview], int], now: float) -> bool:
        """Sends until all is gone or `send` takes no more.

        Args:
            send: returns how many bytes it took, fewer than it was given when it would block.
            now: noted as progress where any byte was taken.

        Returns:
            Whether all is gone.
        """
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            if len(pieces) > 1 and len(piece) < _JOIN_BELOW:
                piece = self._join()
            taken = send(piece)
            if taken:
                self.size -= taken
                self.progress_at = now
            if taken < len(piece):
                pieces[0] = memoryview(piece)[taken:]
                return False
            pieces.popleft()
        return True

    def _join(self) -> bytes:
        """Puts the first small pieces together as one, and returns it."""
        parts, size = [], 0
        while self._pieces and size + len(self._pieces[0]) <= _JOIN_BELOW:
            parts.append(self._pieces.popleft())
            size += len(parts[-1])
        joined = b"".join(parts)
        self._pieces.appendleft(joined)
        return joined
