"""A message parser whose events are plain tuples."""

from __future__ import annotations

from dilithion_ws.protocol.message_parser import MessageParser

Event = tuple[int, bytes]
"""Kind and payload."""


class TupleParser(MessageParser):
    """Returns events that compare equal to tuples."""

    def receive(self, data: bytes) -> list[Event]:  # type: ignore[override]
        return [(event.kind, event.payload) for event in super().receive(data)]
