"""wsproto behind one small face: what decides about every frame that the short path of `stream.py` does not take.

wsproto has four habits that surprise its callers; they end here:

1. its state changes only while `events()` is iterated, so every feed iterates it to the end;
2. a parse error looks like a close event and leaves the state OPEN, so the two are told apart by that state;
3. payloads arrive in pieces, so whole messages are put together here;
4. the end of a stream is None for it (and b"" for h11), so it is never told of one.
"""

from __future__ import annotations

from collections.abc import Iterator

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension

from . import frames

__all__ = ["FAILED", "Event", "WsprotoAdapter"]

FAILED = 0x10
"""Event kind: the peer broke the protocol; the payload is that of the close frame to answer with."""

Event = tuple[int, bytes]
"""What was received: an opcode (TEXT, BINARY, CLOSE, PING, PONG) or FAILED, and its payload."""


class WsprotoAdapter:
    """A wsproto connection that is fed one frame after the other and answers with whole messages.

    Args:
        extension: what was negotiated; None for nothing.
    """

    __slots__ = ("_connection", "_message")

    def __init__(self, extension: Extension | None = None) -> None:
        self._connection = Connection(ConnectionType.SERVER, extensions=[] if extension is None else [extension])
        self._message = bytearray()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Hands bytes of a frame to wsproto; yields what they complete."""
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                self._message += event.data.encode()
                if event.message_finished:
                    yield frames.TEXT, self._join()
            elif isinstance(event, BytesMessage):
                self._message += event.data
                if event.message_finished:
                    yield frames.BINARY, self._join()
            elif isinstance(event, Ping):
                yield frames.PING, bytes(event.payload)
            elif isinstance(event, Pong):
                yield frames.PONG, bytes(event.payload)
            elif isinstance(event, CloseConnection):
                failed = self._connection.state is ConnectionState.OPEN
                code = None if event.code == 1005 else int(event.code)
                yield FAILED if failed else frames.CLOSE, frames.close_payload(code, event.reason or "")

    def _join(self) -> bytes:
        message = bytes(self._message)
        self._message.clear()
        return message
