"""HTTP requests and responses as values."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Headers", "HttpHead", "HttpRefusal", "HttpRequest", "HttpResponse", "is_ambiguous", "reason_phrase"]

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

    def to_bytes(self) -> bytes:
        """Return the whole response."""
        body = self.message.encode() + b"\n"
        headers = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            *self.headers,
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (self.status, reason_phrase(self.status), lines, body)


def reason_phrase(status: int) -> bytes:
    """Return the reason phrase of a status (RFC 9110 section 15), or nothing if it is not used here."""
    return _REASONS.get(status, b"")


def is_ambiguous(head: bytes) -> bool:
    """Return whether two parsers may read different requests from a head (RFC 9112 sections 2.2 and 5.2).

    That is so for folded lines, and for line ends other than CR LF.
    """
    return _BAD_LINE.search(head) is not None
