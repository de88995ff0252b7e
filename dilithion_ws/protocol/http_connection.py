"""The opening handshake (RFC 6455 section 4.2): h11 reads the HTTP request, the rules of the upgrade are checked here.

Every request gets an answer: `UpgradeRequest` when it may become a WebSocket, else `HttpRefusal` with the status that
tells the client what to mend. Bytes that came in the same packet behind the request are kept (`HttpConnection.trailing`):
they are the first frames.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

import h11

from .http import Headers, HttpRequest, HttpResponse, is_ambiguous

__all__ = ["HttpRefusal", "HttpConnection", "UpgradeRequest", "accept_response"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"
_REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    405: b"Method Not Allowed",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


@dataclass(frozen=True, repr=False)  # the headers may hold a password
class UpgradeRequest:
    """A request that asks for a WebSocket and keeps every rule of section 4.2.1.

    Attributes:
        target: the request target, as sent.
        headers: the values by lower-case name.
        key: the value of Sec-WebSocket-Key.
    """

    target: str
    headers: dict[bytes, list[bytes]]
    key: bytes

    def offers(self) -> list[str]:
        """The subprotocols that the client offers, in its order (section 11.3.4)."""
        offered = self.header(b"sec-websocket-protocol") or ""
        return [item.strip() for item in offered.split(",") if item.strip()]

    def header(self, name: bytes) -> str | None:
        """The value of a header (lower-case name), values of a repeated one joined by commas; None where absent."""
        values = self.headers.get(name)
        return None if values is None else b", ".join(values).decode("latin-1")


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


class HttpConnection:
    """The stage of a connection before it is a WebSocket.

    Args:
        limit: bytes that request line and headers may have together.
        too_big: the sentence that a 431 carries.
        body_limit: bytes that the body of an ordinary request may have; -1 where only upgrades are answered.
        body_too_big: the sentence that a 413 carries.
    """

    __slots__ = (
        "_body",
        "_body_limit",
        "_body_too_big",
        "_connection",
        "_head",
        "_limit",
        "_method",
        "_request",
        "_too_big",
    )

    def __init__(self, limit: int, too_big: str, body_limit: int = -1, body_too_big: str = "") -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self._limit = limit
        self._too_big = too_big
        self._body_limit = body_limit
        self._body_too_big = body_too_big
        self._head = b""
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._method = b""

    def receive(self, data: bytes) -> UpgradeRequest | HttpRequest | HttpRefusal | None:
        """Takes received bytes; returns the outcome once the request is whole, None before."""
        if self._request is None:
            self._head += data
        try:
            self._connection.receive_data(data)
        except h11.RemoteProtocolError as error:  # pragma: no cover - h11 finds faults when events are asked for
            return HttpRefusal(400, f"not an HTTP/1.1 request: {error}")
        return self._look()

    def _look(self) -> UpgradeRequest | HttpRequest | HttpRefusal | None:
        try:
            return self._next()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                return HttpRefusal(431, self._too_big)
            return HttpRefusal(400, f"not an HTTP/1.1 request: {error}")

    def _next(self) -> UpgradeRequest | HttpRequest | HttpRefusal | None:
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            if isinstance(event, h11.Request):
                refusal = self._check_head()
                if refusal is not None:
                    return refusal
                if event.http_version not in (b"1.0", b"1.1"):
                    return HttpRefusal(505, "this server speaks HTTP/1.1")
                fields = _fields(event)
                if self._body_limit < 0 or b"websocket" in _tokens(fields, b"upgrade"):
                    return _check(event, fields)
                length = fields.get(b"content-length")
                if length and b"transfer-encoding" in fields:
                    return HttpRefusal(400, "a request has one length: Transfer-Encoding or Content-Length, not both")
                if length and int(length[0]) > self._body_limit:
                    return HttpRefusal(413, self._body_too_big)
                self._request = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._body_limit:
                    return HttpRefusal(413, self._body_too_big)
            else:
                return self._whole()

    def _check_head(self) -> HttpRefusal | None:
        """Checks the head as it came, which h11 reads more kindly than others may."""
        head, self._head = self._head.lstrip(b"\r\n").partition(b"\r\n\r\n")[0], b""
        if len(head) + 4 > self._limit:
            return HttpRefusal(431, self._too_big)
        if is_ambiguous(head):
            return HttpRefusal(400, "not an HTTP/1.1 request: lines end with CR LF, and are not folded")
        return None

    def _whole(self) -> HttpRequest:
        request = self._request
        assert request is not None
        self._method = request.method
        body, self._body, self._request = bytes(self._body), bytearray(), None
        headers = tuple((name, value) for name, value in request.headers)
        return HttpRequest(request.method.decode("ascii"), request.target.decode("ascii"), headers, body)

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits to be told that it may send the body."""
        return self._connection.they_are_waiting_for_100_continue

    def go_on(self) -> bytes:
        """Tells it so."""
        return self._connection.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    def respond(self, response: HttpResponse, *, close: bool) -> tuple[bytes, bool]:
        """The bytes of an answer, and whether the connection ends behind it.

        Args:
            response: the answer to the last request.
            close: whether it is to end in any case.
        """
        headers = [
            (b"Content-Type", response.content_type.encode()),
            (b"Content-Length", b"%d" % len(response.body)),
            *response.headers,
        ]
        if close:
            headers.append((b"Connection", b"close"))
        connection = self._connection
        data = connection.send(
            h11.Response(status_code=response.status, headers=headers, reason=_reason(response.status))
        )
        if response.body and self._method != b"HEAD":
            data += connection.send(h11.Data(data=response.body))
        data += connection.send(h11.EndOfMessage())
        return data, connection.our_state is not h11.DONE or connection.their_state is not h11.DONE

    def again(self) -> UpgradeRequest | HttpRequest | HttpRefusal | None:
        """Goes on to the next request, which may be there already; see `receive`."""
        self._head = self._connection.trailing_data[0]
        self._connection.start_next_cycle()
        return self._look()

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


def _reason(status: int) -> bytes:
    return _REASONS.get(status, b"")


def _check(request: h11.Request, fields: _Fields) -> UpgradeRequest | HttpRefusal:
    if request.method != b"GET":
        return HttpRefusal(405, "this port speaks WebSocket: the method must be GET", ((b"Allow", b"GET"),))
    if b"websocket" not in _tokens(fields, b"upgrade"):
        return HttpRefusal(
            426,
            "this port speaks WebSocket: send Upgrade: websocket",
            ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", _VERSION)),
        )
    if b"upgrade" not in _tokens(fields, b"connection"):
        return HttpRefusal(400, "the Connection header must contain Upgrade")
    if request.http_version != b"1.1":
        return HttpRefusal(400, "a WebSocket upgrade needs HTTP/1.1")
    if len(fields.get(b"host", ())) != 1:  # pragma: no cover - h11 refuses it before
        return HttpRefusal(400, "exactly one Host header is needed")
    if b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]:
        return HttpRefusal(400, "an upgrade request has no body")
    if _tokens(fields, b"sec-websocket-version") != [_VERSION]:
        return HttpRefusal(426, "the WebSocket version must be 13", ((b"Sec-WebSocket-Version", _VERSION),))
    keys = fields.get(b"sec-websocket-key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        return HttpRefusal(400, "Sec-WebSocket-Key must be one base64 value of 16 bytes")
    return UpgradeRequest(request.target.decode("ascii"), fields, keys[0])


_Fields = dict[bytes, list[bytes]]


def _fields(request: h11.Request) -> _Fields:
    """The headers of a request by lower-case name, in one pass: h11's own sequence of them is slow to go through."""
    found: _Fields = {}
    for name, value in request.headers.raw_items():
        found.setdefault(name.lower(), []).append(value)
    return found


def _tokens(fields: _Fields, name: bytes) -> list[bytes]:
    """The comma-separated values of a header, in lower case: tokens of Upgrade and Connection know no case."""
    return [token.strip() for value in fields.get(name, ()) for token in value.lower().split(b",")]


def _is_key(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
