"""The four forms of a request target (RFC 9112 section 3.2)."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["RequestTarget", "parse_target"]


class RequestTarget(NamedTuple):
    """Where a request goes.

    Attributes:
        path: path and query, beginning with a slash; or `*` for the server as a whole.
        authority: host and port that take the place of the Host header, or None.
    """

    path: str
    authority: str | None = None


def parse_target(method: str, target: str) -> RequestTarget | None:
    """Return the parts of a target, or None if its form is not allowed.

    Args:
        method: of the request.
        target: as it was sent.
    """
    if target.startswith("/"):
        return RequestTarget(target)
    if target == "*":
        return RequestTarget(target) if method == "OPTIONS" else None
    try:
        parts = urlsplit(target)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        return None  # also that of CONNECT, for which this is not the server
    path = parts.path or "/"
    return RequestTarget(f"{path}?{parts.query}" if parts.query else path, parts.netloc)
