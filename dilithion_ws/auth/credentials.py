"""Credentials as clients send them: HTTP Basic (RFC 7617), Bearer (RFC 6750), or a subprotocol, for browsers.

A token is a password too: that of the name `__token__`, for clients that have only Basic, or only `authenticate`.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

__all__ = ["BEARER_PREFIX", "TOKEN_NAME", "Credentials", "from_authorization", "from_subprotocols"]

TOKEN_NAME = "__token__"
BEARER_PREFIX = "base64url.bearer.dilithion."
_MAX_LENGTH = 1024


class Credentials(NamedTuple):
    """Name and password that were not verified yet."""

    name: str
    password: str

    def __repr__(self) -> str:
        return "<Credentials>"


def from_authorization(header: str) -> Credentials | None:
    """Return the credentials in an Authorization header, or None if it is malformed or of another scheme."""
    scheme, _, value = header.strip().partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == "bearer":
        return Credentials(TOKEN_NAME, value) if 0 < len(value) <= _MAX_LENGTH else None
    if scheme != "basic":
        return None
    text = _decode(value, urlsafe=False)
    name, colon, password = text.partition(":")
    return Credentials(name, password) if colon else None


def from_subprotocols(offered: list[str]) -> Credentials | None:
    """Return the credentials in offered subprotocols, or None if there are none or more than one.

    What the subprotocol contains is `user:password`, or a token, which has no colon.
    """
    found = [item for item in offered if item.startswith(BEARER_PREFIX)]
    text = _decode(found[0][len(BEARER_PREFIX) :], urlsafe=True) if len(found) == 1 else ""
    name, colon, password = text.partition(":")
    if colon:
        return Credentials(name, password)
    return Credentials(TOKEN_NAME, text) if text else None


def _decode(encoded: str, *, urlsafe: bool) -> str:
    """Return the text in Base64, or nothing if it is malformed."""
    if len(encoded) > _MAX_LENGTH:
        return ""
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        return base64.b64decode(padded, b"-_" if urlsafe else None, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
