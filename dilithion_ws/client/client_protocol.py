"""One WebSocket connection of a client as a state machine over wsproto: bytes in, messages and bytes to send out."""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from ..errors import CloseCode
from .connection_options import ConnectionOptions
from .exceptions import ConnectionLostError
from .upgrade_errors import upgrade_error

__all__ = ["ClientProtocol", "Received"]

_SUBPROTOCOL = "dilithion.v1"
_MOST_REASON = 500


class Received(NamedTuple):
    """What some bytes from the server contained.

    Attributes:
        messages: in order.
        reply: bytes to send: pongs, or the answer to a close frame.
    """

    messages: list[str | bytes]
    reply: bytes


class ClientProtocol:
    """Not thread-safe.

    Args:
        options: how to connect.

    Attributes:
        is_open: whether the server has accepted the upgrade.
        is_closed: whether nothing more can be received.
        close_code, close_reason: what the server closed with, or why the connection is of no more use.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[str] | list[bytes] = []
        self._size = 0
        self._refusal: RejectConnection | None = None
        self._refusal_body = b""
        self.is_open = False
        self.is_closed = False
        self.close_code = int(CloseCode.ABNORMAL)
        self.close_reason = ""

    def upgrade_request(self) -> bytes:
        """Return the request, the first bytes to send (RFC 6455 section 4.1)."""
        parts = urlsplit(self._options.url)
        headers = []
        if self._options.credentials is not None:
            encoded = base64.b64encode(":".join(self._options.credentials).encode())
            headers.append((b"Authorization", b"Basic " + encoded))
        host = parts.netloc.rpartition("@")[2]
        request = Request(host=host, target=parts.path or "/", subprotocols=[_SUBPROTOCOL], extra_headers=headers)
        return self._ws.send(request)

    def receive_data(self, data: bytes) -> Received:
        """Handle bytes from the server. None at all mean that it has closed the connection.

        Raises:
            RefusedError: the server's answer is a refusal that will be the same the next time.
            ConnectionLostError: the connection cannot be used, for another reason.
        """
        messages: list[str | bytes] = []
        reply = b""
        try:
            self._ws.receive_data(data or None)
            for event in self._ws.events():
                if isinstance(event, (TextMessage, BytesMessage)):
                    whole = self._assemble(event)
                    if self.is_closed:
                        break
                    if whole is not None:
                        messages.append(whole)
                elif isinstance(event, Ping):
                    reply += self._ws.send(event.response())
                elif isinstance(event, CloseConnection):
                    reply += self._on_close(event)
                else:
                    self._on_answer(event)
        except (ProtocolError, ValueError) as error:  # a ValueError of wsproto is about bytes that are not ASCII
            if not self.is_open:
                raise ConnectionLostError(f"the server does not speak WebSocket: {error}") from None
            self.is_closed, self.close_reason = True, str(error)
        if not data and not self.is_closed:
            self._on_end()
        return Received(messages, reply)

    def encode(self, text: str) -> bytes:
        """Return the bytes of a text message. Raise ConnectionLostError if the connection is closed."""
        try:
            return self._ws.send(TextMessage(data=text))
        except ProtocolError:
            raise ConnectionLostError("the connection is closed") from None

    def close(self) -> bytes:
        """Return the bytes of a close frame, or none if one was sent before."""
        try:
            return self._ws.send(CloseConnection(code=CloseCode.NORMAL))
        except ProtocolError:
            return b""

    def _on_close(self, event: CloseConnection) -> bytes:
        self.is_closed = True
        self.close_code, self.close_reason = int(event.code), event.reason or ""
        try:
            return self._ws.send(event.response())
        except ProtocolError:
            return b""  # it answers the client's own close frame

    def _on_answer(self, event: Event) -> None:
        """Handle a part of the answer to the upgrade."""
        if isinstance(event, AcceptConnection):
            self.is_open = True
        elif isinstance(event, RejectConnection):
            self._refusal = event
            if not event.has_body:
                self._refuse(event)
        elif isinstance(event, RejectData):
            assert self._refusal is not None
            self._refusal_body += bytes(event.data)[:_MOST_REASON]
            if event.body_finished or len(self._refusal_body) >= _MOST_REASON:
                self._refuse(self._refusal)

    def _refuse(self, refusal: RejectConnection) -> None:
        headers = {bytes(name).lower(): bytes(value).decode("latin-1") for name, value in refusal.headers}
        raise upgrade_error(refusal.status_code, self._refusal_body, headers.get(b"retry-after"))

    def _on_end(self) -> None:
        self.is_closed = True
        if self._refusal is not None:
            self._refuse(self._refusal)
        if not self.is_open:
            raise ConnectionLostError("the server closed the connection during the upgrade")

    def _assemble(self, event: TextMessage | BytesMessage) -> str | bytes | None:
        """Return a message if this part of it is the last one."""
        limit = self._options.max_message_size
        self._size += len(event.data)
        if self._size > limit:
            self.is_closed, self.close_reason = True, f"a message is larger than {limit} bytes (max_message_size)"
            return None
        self._parts.append(event.data)  # type: ignore[arg-type]
        if not event.message_finished:
            return None
        parts, self._parts, self._size = self._parts, [], 0
        if isinstance(event, TextMessage):
            return "".join(parts)  # type: ignore[arg-type]
        return b"".join(bytes(part) for part in parts)  # type: ignore[arg-type]
