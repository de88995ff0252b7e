"""API tokens: random secrets with a name, a role, and perhaps a list of methods, networks and an expiry.

A token is `dws_` and 43 characters that stand for 32 random bytes. It cannot be guessed, so it needs no slow hash: the
users file contains its SHA-256, and one look-up by that finds the token.

    "tokens": {"prometheus": {"token_hash": "<hex>", "role": "metrics", "methods": ["getblockcount"],
                              "networks": ["10.0.0.0/8"], "expires": "2027-01-31T00:00:00+00:00"},
               "pool": {"certificate_sha256": "<hex>", "role": "readonly"}}

A TLS certificate is a token, too: who has its key logs in by presenting it. It is public, so sending it proves nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..config.config import IPNetwork, parse_network
from ..errors import ConfigError
from ..util.ip import parse_address

__all__ = [
    "TOKEN_SESSION_PREFIX",
    "ApiToken",
    "TokenLimits",
    "hash_token",
    "make_token",
    "parse_expiry",
    "parse_networks",
    "parse_token",
    "parse_wallets",
    "remarks_of",
    "render_token",
    "unknown_members",
]

TOKEN_SESSION_PREFIX = "token:"
"""Before the name of a token in the name of its session's user. No user can have that name, since it has a colon."""

_PREFIX = "dws_"
_REMARKS = {"comment", "description"}
_MEMBERS = {"token_hash", "certificate_sha256", "role", "methods", "networks", "expires", "wallets"}


@dataclass(frozen=True)
class TokenLimits:
    """What a token is restricted to, beyond its role.

    Attributes:
        methods: the only methods that it may call, or None for all that its role allows.
        networks: the only networks that it may come from; empty for all.
        expires: when it ends, in seconds of Unix time, or None.
        wallets: the only wallets that it may use, or None for all.
    """

    methods: frozenset[str] | None = None
    networks: tuple[IPNetwork, ...] = ()
    expires: float | None = None
    wallets: frozenset[str] | None = None

    def allows_address(self, host: str) -> bool:
        """Return whether the token may be used from an address."""
        if not self.networks:
            return True
        address = parse_address(host)
        return address is not None and any(address in network for network in self.networks)


@dataclass(frozen=True, repr=False)
class ApiToken:
    """One token, as it is stored.

    Attributes:
        name: as a user's.
        role: the name of the role.
        rights: bits of `Permission`.
        digest: SHA-256 of the token, or of the certificate.
        limits: further restrictions.
        is_certificate: whether it is a TLS certificate.
    """

    name: str
    role: str
    rights: int
    digest: bytes
    limits: TokenLimits = TokenLimits()
    is_certificate: bool = False

    @property
    def wallets(self) -> frozenset[str] | None:
        """The only wallets that it may use, or None for all."""
        return self.limits.wallets


def make_token() -> str:
    """Return a new token."""
    return _PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def parse_token(name: str, entry: Any, roles: Mapping[str, int], source: str) -> ApiToken:
    """Parse one token of a users file. Raise ConfigError if it cannot be used."""
    what = f"{source}: token {name!r}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{what} must be an object")
    unknown = unknown_members(entry, _MEMBERS)
    if unknown:
        raise ConfigError(f"{what} has the unknown member {min(unknown)!r}; accepted are {', '.join(sorted(_MEMBERS))}")
    role = entry.get("role")
    if not isinstance(role, str) or role not in roles:
        raise ConfigError(f"{what} has the role {role!r}; known are {', '.join(sorted(roles))}")
    is_certificate = "certificate_sha256" in entry
    try:
        digest = bytes.fromhex(entry["certificate_sha256" if is_certificate else "token_hash"])
    except (KeyError, TypeError, ValueError):
        digest = b""
    if len(digest) != hashlib.sha256().digest_size or (is_certificate and "token_hash" in entry):
        raise ConfigError(
            f"{what} needs a token_hash or a certificate_sha256, the SHA-256 of the token or certificate as 64 hex digits"
        )
    methods = frozenset(_strings(entry, "methods", what)) if "methods" in entry else None
    limits = TokenLimits(methods, _networks(entry, what), _expiry(entry, what), parse_wallets(entry, what))
    return ApiToken(name, role, roles[role], digest, limits, is_certificate)


def render_token(token: ApiToken) -> dict[str, Any]:
    """Return a token as a users file has it."""
    member = "certificate_sha256" if token.is_certificate else "token_hash"
    entry: dict[str, Any] = {member: token.digest.hex(), "role": token.role}
    if token.limits.methods is not None:
        entry["methods"] = sorted(token.limits.methods)
    if token.limits.wallets is not None:
        entry["wallets"] = sorted(token.limits.wallets)
    if token.limits.networks:
        entry["networks"] = [str(network) for network in token.limits.networks]
    if token.limits.expires is not None:
        entry["expires"] = datetime.fromtimestamp(token.limits.expires, timezone.utc).isoformat()
    return entry


def unknown_members(entry: Mapping[str, Any], known: set[str]) -> set[str]:
    """Return the members of an object that mean nothing here. Remarks for people are none of them.

    The node's guide and its generator write `comment` and `description`; its example has members such as `_comment`.
    """
    return set(entry) - known - set(remarks_of(entry))


def remarks_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an object that are remarks for people."""
    return {name: value for name, value in entry.items() if name in _REMARKS or name.startswith("_")}


def parse_wallets(entry: dict[str, Any], what: str) -> frozenset[str] | None:
    """Return the member `wallets`: names, of which the empty one is that of the default wallet. None if it is missing."""
    return frozenset(_strings(entry, "wallets", what)) if "wallets" in entry else None


def parse_networks(texts: Iterable[str], what: str) -> tuple[IPNetwork, ...]:
    """Return addresses and networks. Raise ConfigError if a text is neither."""
    return tuple(parse_network(text, what) for text in texts)


def parse_expiry(text: str, what: str) -> float:
    """Return the Unix time that an ISO 8601 date stands for, UTC if it names no time zone. Else raise ConfigError."""
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        found = (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)).timestamp()
        datetime.fromtimestamp(found, timezone.utc)  # so that it can be written again
        return found
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{what} is {text[:64]!r}; it takes a date such as 2027-01-31 or 2027-01-31T12:00Z") from None


def _strings(entry: dict[str, Any], name: str, what: str) -> list[str]:
    value = entry.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{what}: {name} must be a list of strings")
    return value


def _networks(entry: dict[str, Any], what: str) -> tuple[IPNetwork, ...]:
    found = parse_networks(_strings(entry, "networks", what), f"{what}: networks")
    if "networks" in entry and not found:
        raise ConfigError(f"{what}: networks is empty; leave it out to allow all")
    return found


def _expiry(entry: dict[str, Any], what: str) -> float | None:
    value = entry.get("expires")
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{what}: expires must be a date such as 2027-01-31T00:00:00Z")
    return parse_expiry(value, f"{what}: expires")
