"""HTTP requests and responses as values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

__all__ = [
    "Headers",
    "HttpHead",
    "HttpRefusal",
    "HttpRequest",
    "HttpResponse",
    "error_body",
    "is_ambiguous",
    "reason_phrase",
    "response_headers",
]

Headers = tuple[tuple[bytes, bytes], ...]
"""Names and values in the order of the message; names of a request are in lower case."""

_BAD_LINE = re.compile(rb"\n[ \t]|(?<!\r)\n|\r(?!\n)")
_REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    426: b"Upgrade Required",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


@dataclass(frozen=True, repr=False)  # headers and body may contain a password
class HttpHead:
    """Request line and headers of a request that does not ask for a WebSocket.

    Attributes:
        method: in capitals.
        target: path and query, as sent.
        headers: all of them.
    """

    method: str
    target: str
    headers: Headers

    def header(self, name: bytes) -> str | None:
        """Return the value of a header (lower-case name), or None. Values of a repeated one are joined by commas."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, repr=False)
class HttpRequest(HttpHead):
    """A whole request.

    Attributes:
        body: the whole body.
    """

    body: bytes = b""


@dataclass(frozen=True)
class HttpResponse:
    """An answer after which the connection may be used again, unless it says otherwise.

    Attributes:
        status: the HTTP status.
        body: the whole body.
        content_type: of the body.
        headers: further headers.
        ends: whether the connection ends after it.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Headers = ()
    ends: bool = False


@dataclass(frozen=True)
class HttpRefusal:
    """An answer after which the connection is closed.

    Attributes:
        status: the HTTP status.
        message: one sentence for people; it becomes the body.
        headers: further headers, such as Sec-WebSocket-Version with a 426.
    """

    status: int
    message: str
    headers: Headers = ()

    def to_bytes(self, date: bytes, method: bytes = b"", headers: Headers = ()) -> bytes:
        """Return the whole response.

        Args:
            date: the value of the Date header.
            method: that of the request, if it is known.
            headers: further ones, for this request only.
        """
        content_type, body = error_body(self.message, method == b"POST")
        usual = response_headers(self.status, date, content_type, len(body))
        sent = [*usual, (b"Connection", b"close"), *self.headers, *headers]
        lines = b"".join(b"%b: %b\r\n" % header for header in sent)
        head = b"HTTP/1.1 %d %b\r\n%b\r\n" % (self.status, reason_phrase(self.status), lines)
        return head if method == b"HEAD" else head + body


def error_body(message: str, as_json: bool) -> tuple[str, bytes]:
    """Return content type and body of an error: as the node has it for a client that speaks JSON-RPC, or plain text."""
    if as_json:
        return "application/json", json.dumps({"error": message}).encode()
    return "text/plain; charset=utf-8", message.encode() + b"\n"


def response_headers(status: int, date: bytes, content_type: str, size: int) -> list[tuple[bytes, bytes]]:
    """Return the headers that every response has (RFC 9110 sections 6.6.1 and 8.6). One without content has no length."""
    headers = [(b"Date", date)]
    if status != 204:
        headers += [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % size)]
    return headers


def reason_phrase(status: int) -> bytes:
    """Return the reason phrase of a status (RFC 9110 section 15), or nothing if it is not used here."""
    return _REASONS.get(status, b"")


def is_ambiguous(head: bytes) -> bool:
    """Return whether two parsers may read different requests from a head (RFC 9112 sections 2.2 and 5.2).

    That is so for folded lines, and for line ends other than CR LF.
    """
    return _BAD_LINE.search(head) is not None
