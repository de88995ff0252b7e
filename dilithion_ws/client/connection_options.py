"""How a client connects."""

from __future__ import annotations

import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["ConnectionOptions", "check_url"]


class ConnectionOptions(NamedTuple):
    """How to connect.

    Attributes:
        url: `ws://host:port` or `wss://host:port`.
        credentials: user and password, None for none.
        context: for wss; None takes the system's authorities.
        timeout: seconds for all of connecting.
        idle: seconds without a byte from the server after which the connection counts as lost; the server pings.
        max_message_size: bytes of one message.
    """

    url: str
    credentials: tuple[str, str] | None
    context: ssl.SSLContext | None
    timeout: float
    idle: float
    max_message_size: int

    def __repr__(self) -> str:
        return f"<ConnectionOptions of {self.url}>"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context for TLS, or None for a plain connection."""
        if urlsplit(self.url).scheme != "wss":
            return None
        return self.context or ssl.create_default_context()


def check_url(url: str) -> None:
    """Raise ValueError if this is not the address of a server."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        good = good and url.isprintable() and " " not in url
        (parts.hostname or "").encode("idna")
    except ValueError:
        good = False
    if not good or "@" in url:
        shown = url.rpartition("@")[2][:100]  # what is before an @ may be a password
        raise ValueError(f"{shown!r} is not the address of a server, such as ws://host:port or wss://host:port")
