"""Bytes that a client has not accepted yet. The buffer exists only while there are some.

The buffer itself has no limit, because an answer that was begun must be sent whole. Its growth is limited by those who
fill it, and each of them reacts as its bytes demand:

- The leader stops reading from a connection with more than `outbox` unsent bytes, so the client's own calls cannot add to
  them (`Reactor.is_paused`). Calls in flight may: their answers are replaced by an error beyond `outbox` and one result
  (`PendingCall`).
- The delivery of events stops before a connection with unsent bytes. The events wait in the log, where a slow client
  costs no more than a cursor.
- `send` of the host raises `OutboxFullError`. Broadcasts stop before a connection with unsent bytes, as events do, and
  wait in their log; a client whose next one has left the log is closed (`Broadcasts`).

Size alone does not show a dead client: a slow one may need minutes for a large answer. So the time since the last
progress decides (`write_stall`), and any accepted byte counts as progress.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["WriteBuffer"]

_JOIN_BELOW = 65536
"""Small pieces are sent together up to this size, which saves system calls without copying large pieces."""


class WriteBuffer:
    """A queue of bytes in the order in which they must be sent.

    A first piece stays as it is; from the second on, small pieces are joined just before they are sent. So a large answer
    is never copied, and thousands of small events take few system calls.

    Args:
        now: the present time.

    Attributes:
        size: bytes in the queue.
        progress_at: when the client last accepted any, in seconds of the server's clock.
    """

    __slots__ = ("_pieces", "progress_at", "size")

    def __init__(self, now: float) -> None:
        self._pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.progress_at = now

    def append(self, data: bytes | memoryview) -> None:
        """Add bytes at the end."""
        self._pieces.append(data)
        self.size += len(data)

    def drain(self, send: Callable[[bytes | memoryview], int], now: float) -> bool:
        """Send bytes until the queue is empty or `send` accepts no more. Return whether it is empty.

        Args:
            send: returns how many bytes it accepted; fewer than it was given if it would block.
            now: the present time.
        """
        pieces = self._pieces
        while pieces:
            piece = pieces[0]
            if len(pieces) > 1 and len(piece) < _JOIN_BELOW:
                piece = self._join()
            accepted = send(piece)
            if accepted:
                self.size -= accepted
                self.progress_at = now
            if accepted < len(piece):
                pieces[0] = memoryview(piece)[accepted:]
                return False
            pieces.popleft()
        return True

    def _join(self) -> bytes:
        """Replace the first small pieces by one, and return it."""
        parts, size = [], 0
        while self._pieces and size + len(self._pieces[0]) <= _JOIN_BELOW:
            parts.append(self._pieces.popleft())
            size += len(parts[-1])
        joined = b"".join(parts)
        self._pieces.appendleft(joined)
        return joined
