"""wsproto behind one narrow interface. It decides on every frame that `message_parser.py` does not parse itself.

wsproto has four habits that surprise its callers. They end here:

1. its state changes only while `events()` is iterated, so `feed` always iterates it to the end;
2. a parse error looks like a close event and leaves the state OPEN, so that state distinguishes the two;
3. payloads arrive in pieces, so whole messages are joined here;
4. it takes None for the end of a stream (h11 takes b""), so the end is never passed on to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension

from . import frames

__all__ = ["PROTOCOL_ERROR", "MessageEvent", "WsprotoAdapter"]

PROTOCOL_ERROR = 0x10
"""A kind of event: the peer violated the protocol. The payload is that of the close frame to answer with."""


class MessageEvent(msgspec.Struct, gc=False):
    """What was received.

    Attributes:
        kind: the opcode TEXT, BINARY, CLOSE, PING or PONG; or PROTOCOL_ERROR.
        payload: the whole payload.
    """

    kind: int
    payload: bytes


class WsprotoAdapter:
    """A wsproto connection that gets one frame after the other and returns whole messages.

    Args:
        extension: what was negotiated, or None.
    """

    __slots__ = ("_connection", "_message")

    def __init__(self, extension: Extension | None = None) -> None:
        self._connection = Connection(ConnectionType.SERVER, extensions=[] if extension is None else [extension])
        self._message = bytearray()

    def feed(self, data: bytes) -> Iterator[MessageEvent]:
        """Pass bytes of a frame to wsproto, and yield the events that they complete."""
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                payload = event.data.encode()
                if event.message_finished:
                    yield MessageEvent(frames.TEXT, self._finish_message(payload))
                else:
                    self._message += payload
            elif isinstance(event, BytesMessage):
                if event.message_finished:
                    yield MessageEvent(frames.BINARY, self._finish_message(bytes(event.data)))
                else:
                    self._message += event.data
            elif isinstance(event, Ping):
                yield MessageEvent(frames.PING, bytes(event.payload))
            elif isinstance(event, Pong):
                yield MessageEvent(frames.PONG, bytes(event.payload))
            elif isinstance(event, CloseConnection):
                failed = self._connection.state is ConnectionState.OPEN
                code = None if event.code == 1005 else int(event.code)
                payload = frames.close_payload(code, event.reason or "")
                yield MessageEvent(PROTOCOL_ERROR if failed else frames.CLOSE, payload)

    def _finish_message(self, end: bytes) -> bytes:
        """Return the whole message. A message in one piece, which may be inflated from few bytes, is not copied."""
        if not self._message:
            return end
        message = bytes(self._message) + end
        self._message.clear()
        return message
