"""Names and passwords as clients send them: HTTP Basic (RFC 7617), or a subprotocol, for browsers."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

__all__ = ["BEARER_PREFIX", "Credentials", "from_basic", "from_subprotocols"]

BEARER_PREFIX = "base64url.bearer.dilithion."
_MAX_LENGTH = 1024


class Credentials(NamedTuple):
    """Name and password that were not verified yet."""

    name: str
    password: str

    def __repr__(self) -> str:
        return "<Credentials>"


def from_basic(header: str) -> Credentials | None:
    """Return the credentials in an Authorization header, or None if it is malformed or of another scheme."""
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    return _split(value.strip(), urlsafe=False)


def from_subprotocols(offered: list[str]) -> Credentials | None:
    """Return the credentials in offered subprotocols, or None if there are none or more than one."""
    found = [item for item in offered if item.startswith(BEARER_PREFIX)]
    return _split(found[0][len(BEARER_PREFIX) :], urlsafe=True) if len(found) == 1 else None


def _split(encoded: str, *, urlsafe: bool) -> Credentials | None:
    if len(encoded) > _MAX_LENGTH:
        return None
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        text = base64.b64decode(padded, b"-_" if urlsafe else None, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    return Credentials(name, password) if colon else None
