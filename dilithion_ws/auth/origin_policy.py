"""Which pages may use the server, and by which host names.

A browser lets any page open a WebSocket to any server, and sends the page's origin with it. So a foreign page could use a
node on its visitor's machine; only the Origin header reveals it (RFC 6455 section 10.2). A foreign host name can also be
made to resolve to 127.0.0.1 (DNS rebinding): then the origin looks like the server's own, and only the Host header
reveals it.

- Origin: a request without one is allowed, since no browser sent it. Otherwise the origin must be the server's own, or
  configured, or of loopback while the server is bound to loopback, so that a page under development on localhost works.
  `null` is foreign.
- Host: localhost, a loopback address, the address that the server is bound to, or a configured name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from ..util.ip import is_loopback, parse_address

__all__ = ["OriginPolicy"]

_MAX_HEADER_LENGTH = 300
"""Characters of a Host or Origin header; a host name has at most 253 (RFC 1035 section 2.3.4)."""


class OriginPolicy:
    """The rules for one listening address.

    Args:
        bound: the address that the server listens on.
        hosts: further names of the server.
        origins: further origins of pages that may use it, such as `https://wallet.example`; `*` allows all.
    """

    def __init__(self, bound: str, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._loopback = bound.lower() == "localhost" or is_loopback(bound)
        everything = parse_address(bound)
        self._any_address = everything is not None and everything.is_unspecified
        self._hosts = {"localhost", bound.lower(), *(host.lower() for host in hosts)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def check(self, host: str, origin: str | None) -> str | None:
        """Return why a request may not be answered, or None if it may.

        Args:
            host: the Host header.
            origin: the Origin header, or None.
        """
        name = _host_of(host) if len(host) <= _MAX_HEADER_LENGTH else None  # longer ones would only fill the cache
        if name is None or not self._is_allowed_host(name):
            return f"the Host {host[:64]!r} is not allowed (rpcwebsocketallowhost)"
        if origin is None or "*" in self._origins or origin.lower() in self._origins:
            return None
        if self._is_own(origin, host, name):
            return None
        return f"the Origin {origin[:64]!r} is not allowed (rpcwebsocketalloworigin)"

    def _is_allowed_host(self, name: str) -> bool:
        if name in self._hosts or is_loopback(name):
            return True
        # A server that is bound to all addresses has any of them as its name; a host name cannot look like an address.
        return self._any_address and parse_address(name) is not None

    def _is_own(self, origin: str, host: str, name: str) -> bool:
        parts = _split(origin) if len(origin) <= _MAX_HEADER_LENGTH else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            return False
        if parts.netloc.lower() == host.lower():
            return True
        page = parts.hostname.lower()
        return (
            self._loopback and (page == "localhost" or is_loopback(page)) and (name == "localhost" or is_loopback(name))
        )


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a bad one
    except ValueError:
        return None
    return parts


@lru_cache(1024)
def _host_of(header: str) -> str | None:
    """Return the name in a Host header, without port and brackets, or None if it is malformed."""
    parts = _split(f"//{header}")
    if parts is None or not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname.lower().rstrip(".")
