"""HTTP beside the upgrade: requests with a body, and answers after which the connection goes on."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Headers", "HttpRequest", "HttpResponse", "is_ambiguous"]

Headers = tuple[tuple[bytes, bytes], ...]
"""Names in lower case, and values, in the order of the message."""

_LINE = re.compile(rb"\n[ \t]|(?<!\r)\n|\r(?!\n)")


@dataclass(frozen=True, repr=False)  # headers and body may hold a password
class HttpRequest:
    """A request that asks for no WebSocket.

    Attributes:
        method: in capitals.
        target: path and query, as sent.
        headers: all of them.
        body: what came with it.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = b""

    def header(self, name: bytes) -> str | None:
        """The value of a header (lower-case name), values of a repeated one joined by commas; None where absent."""
        values = [value for key, value in self.headers if key == name]
        return b", ".join(values).decode("latin-1") if values else None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class HttpResponse:
    """An answer.

    Attributes:
        status: the HTTP status.
        body: bytes.
        content_type: of the body.
        headers: more headers.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Headers = ()


def is_ambiguous(head: bytes) -> bool:
    """Whether two readers of a request head may see two different requests in it (RFC 9112 sections 2.2 and 5.2): folded
    lines, or line ends that are not CR LF."""
    return _LINE.search(head) is not None
