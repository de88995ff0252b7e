"""Which pages may use the server, and by which host names.

A browser lets any page open a WebSocket to any server, and sends the page's origin with it. So a foreign page could use a
node on its visitor's machine; only the Origin header reveals it (RFC 6455 section 10.2). A foreign host name can also be
made to resolve to 127.0.0.1 (DNS rebinding): then the origin looks like the server's own, and only the Host header
reveals it.

- Origin: a request without one is allowed, since no browser sent it. Otherwise the origin must be the server's own, or
  configured, or of loopback while the server is bound to loopback, so that a page under development on localhost works.
  `null` is foreign. Origins are compared by scheme, host and port (RFC 6454 section 5). Some native clients send the URL
  that they connect to, so ws counts as http and wss as https; no page can have such an origin.
- Host: localhost, a loopback address, the address that the server is bound to, or a configured name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from ..util.ip import is_loopback, parse_address

__all__ = ["OriginPolicy"]

_MAX_HEADER_LENGTH = 300
"""Characters of a Host or Origin header; a host name has at most 253 (RFC 1035 section 2.3.4)."""


_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\x00-\x20\x7f\[\]%]+)(?::[0-9]*)?")
"""A Host header: `urlsplit` alone would overlook what stands beside brackets, and the zone of an address."""

_HTTP_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Origin(NamedTuple):
    """An origin with a host; the port is never left out."""

    scheme: str
    host: str
    port: int


class _Host(NamedTuple):
    """A Host header."""

    name: str
    port: int | None


class OriginPolicy:
    """The rules for one server.

    Args:
        bound: the addresses that the server listens on.
        hosts: further names of the server.
        origins: further origins of pages that may use it, such as `https://wallet.example`; `*` allows all.
    """

    def __init__(self, bound: Sequence[str], hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._loopback = all(address.lower() == "localhost" or is_loopback(address) for address in bound)
        parsed = map(parse_address, bound)
        self._any_address = any(address is not None and address.is_unspecified for address in parsed)
        self._hosts = {"localhost", *(address.lower() for address in bound), *(host.lower() for host in hosts)}
        self._origins = {_origin_of(origin) for origin in origins}

    def check(self, host: str, origin: str | None) -> str | None:
        """Return why a request may not be answered, or None if it may.

        Args:
            host: the Host header.
            origin: the Origin header, or None.
        """
        own = _host_of(host) if len(host) <= _MAX_HEADER_LENGTH else None  # longer ones would only fill the cache
        if own is None or not self._is_allowed_host(own.name):
            return f"the Host {host[:64]!r} is not allowed (rpcwebsocketallowhost)"
        if origin is None or "*" in self._origins:
            return None
        found = _origin_of(origin) if len(origin) <= _MAX_HEADER_LENGTH else origin
        if found in self._origins or (isinstance(found, _Origin) and self._is_own(found, own)):
            return None
        return f"the Origin {origin[:64]!r} is not allowed (rpcwebsocketalloworigin)"

    def _is_allowed_host(self, name: str) -> bool:
        if name in self._hosts or is_loopback(name):
            return True
        # A server that is bound to all addresses has any of them as its name; a host name cannot look like an address.
        return self._any_address and parse_address(name) is not None

    def _is_own(self, origin: _Origin, own: _Host) -> bool:
        if origin.host == own.name and origin.port == (own.port or _DEFAULT_PORTS[origin.scheme]):
            return True
        return self._loopback and _is_local(origin.host) and _is_local(own.name)


def _is_local(name: str) -> bool:
    return name == "localhost" or is_loopback(name)


def _origin_of(text: str) -> _Origin | str:
    """Return the parts of an origin with a host, or the normalized text of another one, such as `null` or `file:`."""
    parts = _split(text)
    if parts is not None and parts.hostname and parts.username is None and parts.path in ("", "/"):
        scheme = _HTTP_SCHEMES.get(parts.scheme, "")
        if scheme and not parts.query and not parts.fragment:
            port = parts.port if parts.port is not None else _DEFAULT_PORTS[scheme]
            return _Origin(scheme, parts.hostname.lower().rstrip("."), port)
    return text.lower().rstrip("/")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a bad one
    except ValueError:
        return None
    return parts


@lru_cache(1024)
def _host_of(header: str) -> _Host | None:
    """Return name and port in a Host header, or None if it is malformed."""
    parts = _split(f"//{header}") if _HOST.fullmatch(header) else None
    if parts is None or not parts.hostname or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return _Host(parts.hostname.lower().rstrip("."), parts.port)
