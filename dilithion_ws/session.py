"""One connected client, as access control, JSON-RPC, events and the transport all see it."""

from __future__ import annotations

from typing import Any

from .errors import CloseStatus

__all__ = ["ALL_RIGHTS", "Session"]

ALL_RIGHTS = 0xFFFFFFFF
"""The rights of the role admin, and of everyone on a server without users."""


class Session:
    """A client, from its upgrade to the end of its connection, or over HTTP for one request.

    Attributes:
        connection_id: the number of its connection; a server never uses a number twice.
        address: its IP address and port.
        user: its name once it has authenticated, else None.
        rights: what it may do, bits of `Permission`; all of them on a server without users.
        is_authorized: whether it may call at all: it has authenticated, or need not.
        codec: the encoding of its messages (`Codec`), or None for JSON.
        has_host_codec: whether that is code of the host.
        wallet: the wallet that the path `/wallet/<name>` names, or None for another path.
        token: the API token that it has logged in with (an `auth.api_tokens.ApiToken`), or None.
        is_request: whether it is that of one HTTP request.
        is_rate_limited: whether rate limits apply to it.
        rate_limit_key: what limits by address count it as: its address, or the /64 network of an IPv6 address.
        failed_logins: its failed logins.
        consecutive_rejections: its calls in a row that were refused for their rate.
        denial: the latest decision against it (an `auth.denial.Denial`), or None.
        close_after: set by policy if the connection must be closed once its running calls are answered. The transport
            checks it after each message and each answer.
    """

    __slots__ = (
        "address",
        "close_after",
        "codec",
        "connection_id",
        "consecutive_rejections",
        "denial",
        "failed_logins",
        "has_host_codec",
        "is_authorized",
        "is_rate_limited",
        "is_request",
        "rate_limit_key",
        "rights",
        "token",
        "user",
        "wallet",
    )

    def __init__(self, connection_id: int, address: tuple[str, int], user: str | None = None) -> None:
        self.connection_id = connection_id
        self.address = address
        self.user = user
        self.rights = ALL_RIGHTS
        self.is_authorized = True
        self.codec: Any = None
        self.has_host_codec = False
        self.token: Any = None
        self.wallet: str | None = None
        self.is_rate_limited = False
        self.is_request = False
        self.rate_limit_key = address[0]
        self.failed_logins = 0
        self.consecutive_rejections = 0
        self.denial: Any = None
        self.close_after: CloseStatus | None = None

    def has_rights(self, rights: int) -> bool:
        """Return whether it may call at all and has all of these rights."""
        return self.is_authorized and self.rights & rights == rights

    def may_call_by_name(self, name: str) -> bool:
        """Return whether its API token has no list of methods, or one with this method in it."""
        token = self.token
        methods = token.limits.methods if token is not None else None
        return methods is None or name in methods

    def __repr__(self) -> str:
        return f"<Session {self.connection_id} of {self.user or 'no user'} at {self.address[0]}:{self.address[1]}>"
