"""The opening handshake (RFC 6455 section 4.2): h11 reads the HTTP request, the rules of the upgrade are checked here.

Every request gets an answer: `UpgradeRequest` when it may become a WebSocket, else `HttpRefusal` with the status that
tells the client what to mend. Bytes that came in the same packet behind the request are kept (`Upgrade.trailing`):
they are the first frames.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

import h11

__all__ = ["HttpRefusal", "Upgrade", "UpgradeRequest", "accept_response"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"
_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values, in the order of the request."""


@dataclass(frozen=True, repr=False)  # the headers may hold a password
class UpgradeRequest:
    """A request that asks for a WebSocket and keeps every rule of section 4.2.1.

    Attributes:
        target: the request target, as sent.
        headers: all of them.
        key: the value of Sec-WebSocket-Key.
    """

    target: str
    headers: Headers
    key: bytes

    def offers(self) -> list[str]:
        """The subprotocols that the client offers, in its order (section 11.3.4)."""
        offered = self.header(b"sec-websocket-protocol") or ""
        return [item.strip() for item in offered.split(",") if item.strip()]

    def header(self, name: bytes) -> str | None:
        """The value of a header (lower-case name), values of a repeated one joined by commas; None where absent."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else None


@dataclass(frozen=True)
class HttpRefusal:
    """The answer to a request that does not become a WebSocket; the connection ends after it.

    Attributes:
        status: the HTTP status.
        message: one sentence for a person; it becomes the body.
        headers: more headers, such as Sec-WebSocket-Version with a 426.
    """

    status: int
    message: str
    headers: Headers = ()

    def to_bytes(self) -> bytes:
        """The whole response."""
        body = self.message.encode() + b"\n"
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            *self.headers,
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (self.status, _REASONS[self.status], lines, body)


class Upgrade:
    """The stage of a connection before it is a WebSocket.

    Args:
        limit: bytes that request line and headers may have together.
        too_big: the sentence that a 431 carries.
    """

    __slots__ = ("_connection", "_limit", "_received", "_too_big")

    def __init__(self, limit: int, too_big: str) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self._limit = limit
        self._too_big = too_big
        self._received = 0

    def receive(self, data: bytes) -> UpgradeRequest | HttpRefusal | None:
        """Takes received bytes; returns the outcome once the request is whole, None before."""
        self._received += len(data)
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                return HttpRefusal(431, self._too_big)
            return HttpRefusal(400, f"not an HTTP/1.1 request: {error}")
        if event is h11.NEED_DATA:
            return None
        assert isinstance(event, h11.Request)
        if self._received - len(self.trailing) > self._limit:
            return HttpRefusal(431, self._too_big)
        return _check(event)

    @property
    def trailing(self) -> bytes:
        """What was received behind the request."""
        return self._connection.trailing_data[0]


def accept_response(request: UpgradeRequest, headers: Headers = ()) -> bytes:
    """The 101 response that completes the upgrade (section 4.2.2); `headers` are sent with it."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, lines)
    )


def _check(request: h11.Request) -> UpgradeRequest | HttpRefusal:
    headers: Headers = tuple((name, value) for name, value in request.headers)
    if request.method != b"GET":
        return HttpRefusal(405, "this port speaks WebSocket: the method must be GET", ((b"Allow", b"GET"),))
    if b"websocket" not in _tokens(headers, b"upgrade"):
        return HttpRefusal(
            426,
            "this port speaks WebSocket: send Upgrade: websocket",
            ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", _VERSION)),
        )
    if b"upgrade" not in _tokens(headers, b"connection"):
        return HttpRefusal(400, "the Connection header must contain Upgrade")
    if request.http_version != b"1.1":
        return HttpRefusal(400, "a WebSocket upgrade needs HTTP/1.1")
    if len(_values(headers, b"host")) != 1:  # pragma: no cover - h11 refuses it before
        return HttpRefusal(400, "exactly one Host header is needed")
    if _values(headers, b"transfer-encoding") or _values(headers, b"content-length") not in ([], [b"0"]):
        return HttpRefusal(400, "an upgrade request has no body")
    versions = _tokens(headers, b"sec-websocket-version")
    if versions != [_VERSION]:
        return HttpRefusal(426, "the WebSocket version must be 13", ((b"Sec-WebSocket-Version", _VERSION),))
    keys = _values(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        return HttpRefusal(400, "Sec-WebSocket-Key must be one base64 value of 16 bytes")
    return UpgradeRequest(request.target.decode("ascii"), headers, keys[0])


def _values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _tokens(headers: Headers, name: bytes) -> list[bytes]:
    """The comma-separated values of a header, in lower case: tokens of Upgrade and Connection know no case."""
    return [token.strip().lower() for value in _values(headers, name) for token in value.split(b",")]


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
