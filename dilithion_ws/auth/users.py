"""Users and their roles, from `rpc_permissions.json` and from the configuration.

The file is the node's, version 1:

    {"version": 1,
     "users": {"alice": {"password_hash": "<hex>", "salt": "<hex>", "role": "wallet", "scheme": "scrypt:16384:8:1"}},
     "roles": {"auditor": ["READ_BLOCKCHAIN", "READ_WALLET"]},
     "tokens": {"prometheus": {"token_hash": "<hex>", "role": "metrics"}}}

`scheme` and `tokens` (see `api_tokens.py`) are additions to the node's format; without a scheme, a hash is one of the
node's two older forms. Roles of the file are lists of permissions, or their bits: a number, `"0x003F"`, or an object with
that as `permissions`. `wallets` of a user or a token are the only ones that it may use. Members `comment` and
`description`, and those that begin with `_`, are remarks, as the node's guide and its generator write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .api_tokens import ApiToken, hash_token, parse_token, parse_wallets, remarks_of, render_token, unknown_members
from .credentials import TOKEN_NAME
from .passwords import NODE_SCHEME, SCHEMES, StoredPassword, hash_password
from .permissions import ALL_RIGHTS, ROLES, Permission, parse_rights

__all__ = ["UserDirectory", "User", "UsersFile", "check_name", "parse_users", "render_users"]

_NAMEABLE = sum(Permission)
_NAME = re.compile(r"[^\x00-\x1f\x7f:]{1,64}")
_HEX_RIGHTS = re.compile(r"0[xX][0-9a-fA-F]{1,8}")
_ROLE_REMARKS = {"allowed_methods", "denied_methods"}
"""Members of roles in the node's example, which explain their bits."""
_MAX_USERS = 10_000


@dataclass(frozen=True)
class User:
    """One user.

    Attributes:
        name: up to 64 characters without colons or control characters (RFC 7617 section 2).
        role: the name of the role.
        rights: bits of `Permission`.
        password: the stored password.
        wallets: the only wallets that the user may use, or None for all.
        is_unguessable: whether the password is random, as that of the cookie, and so exempt from lock-out.
    """

    name: str
    role: str
    rights: int
    password: StoredPassword
    is_unguessable: bool = False
    wallets: frozenset[str] | None = None


@dataclass(frozen=True)
class UsersFile:
    """The contents of a users file.

    Attributes:
        users: by name.
        roles: the rights of the file's own roles, by name.
        tokens: API tokens, by name.
        original: what was parsed, of which `render_users` keeps the remarks.
    """

    users: Mapping[str, User]
    roles: Mapping[str, int]
    tokens: Mapping[str, ApiToken] = field(default_factory=dict)
    original: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


class UserDirectory:
    """All users and API tokens. It never changes: after a change of the file, a new directory replaces it.

    Checking a password costs the same for every name, known or not: each scheme that is in use is computed once, with
    the user's salt if it is the user's scheme, and with the salt of a decoy otherwise.
    """

    def __init__(self, users: Iterable[User] = (), tokens: Iterable[ApiToken] = ()) -> None:
        self._users = {user.name: user for user in users}
        self._tokens: dict[bytes, ApiToken] = {}
        self._certificates: dict[bytes, ApiToken] = {}
        for token in tokens:
            (self._certificates if token.is_certificate else self._tokens)[token.digest] = token
        schemes = sorted({user.password.scheme for user in self._users.values()})
        self._decoys = {scheme: hash_password("", scheme) for scheme in schemes}

    def __len__(self) -> int:
        return len(self._users)

    def get(self, name: str) -> User | None:
        """Return the user of this name, or None."""
        return self._users.get(name)

    def names(self) -> set[str]:
        """Return the names of all users."""
        return set(self._users)

    def token_names(self) -> set[tuple[str, bytes]]:
        """Return name and digest of all API tokens."""
        return {(token.name, token.digest) for table in (self._tokens, self._certificates) for token in table.values()}

    def find_token(self, token: str) -> ApiToken | None:
        """Return the API token, or None if it does not exist. Fast."""
        return self._tokens.get(hash_token(token))

    def find_certificate(self, digest: bytes) -> ApiToken | None:
        """Return what a TLS certificate logs in as, or None."""
        return self._certificates.get(digest)

    def renew(self, token: ApiToken) -> ApiToken | None:
        """Return what the file has of a token now, or None if it has it no more."""
        return (self._certificates if token.is_certificate else self._tokens).get(token.digest)

    def check(self, name: str, password: str) -> User | None:
        """Return the user if name and password are right, or None.

        It is slow on purpose, so it must not run in the leading thread.
        """
        user = self._users.get(name)
        right = False
        for scheme, decoy in self._decoys.items():
            mine = user is not None and user.password.scheme == scheme
            stored = user.password if user is not None and mine else decoy
            right |= stored.matches(password) & mine
        return user if right else None


def parse_users(text: str, source: str) -> UsersFile:
    """Parse a users file.

    Args:
        text: its contents.
        source: its name, for messages.

    Raises:
        ConfigError: something in it cannot be used; the message says where, and what is accepted.
    """
    try:
        data = json.loads(text, object_pairs_hook=_reject_duplicates)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("version") != 1 or isinstance(data.get("version"), bool):
        raise ConfigError(f'{source}: expected an object with "version": 1')
    unknown = unknown_members(data, {"version", "users", "roles", "tokens"})
    if unknown:
        raise ConfigError(f"{source}: unknown member {min(unknown)!r}; accepted are version, users, roles, tokens")
    roles = {name: _rights(name, value, source) for name, value in _entries(data, "roles", source)}
    users = {}
    for name, entry in _entries(data, "users", source):
        users[name] = _user(name, entry, {**ROLES, **roles}, source)
    if len(users) > _MAX_USERS:
        raise ConfigError(f"{source}: {len(users)} users are more than {_MAX_USERS}")
    tokens = {}
    for name, entry in _entries(data, "tokens", source):
        check_name(name, source, "token")
        tokens[name] = parse_token(name, entry, {**ROLES, **roles}, source)
    if len(tokens) > _MAX_USERS:
        raise ConfigError(f"{source}: {len(tokens)} tokens are more than {_MAX_USERS}")
    return UsersFile(users, roles, tokens, data)


def render_users(file: UsersFile) -> str:
    """Return the text of a users file."""
    users: dict[str, dict[str, Any]] = {}
    for name, user in file.users.items():
        entry: dict[str, Any] = {"password_hash": user.password.digest.hex(), "salt": user.password.salt.hex()}
        entry["role"] = user.role
        if user.password.scheme != NODE_SCHEME:
            entry["scheme"] = user.password.scheme
        if user.wallets is not None:
            entry["wallets"] = sorted(user.wallets)
        users[name] = entry
    roles: dict[str, Any] = {
        name: rights if rights & ~_NAMEABLE else [item.name for item in Permission if rights & item]
        for name, rights in file.roles.items()
    }
    data: dict[str, Any] = {"version": 1, "users": users, "roles": roles}
    if file.tokens:
        data["tokens"] = {name: render_token(token) for name, token in file.tokens.items()}
    for section in ("users", "tokens"):
        for name, entry in data.get(section, {}).items():
            entry.update(remarks_of(file.original.get(section, {}).get(name, {})))
    return json.dumps({**remarks_of(file.original), **data}, indent=2, ensure_ascii=False) + "\n"


def check_name(name: str, source: str, kind: str = "user") -> None:
    """Raise ConfigError if a name is not valid for a user, or for a token."""
    if not _NAME.fullmatch(name) or not name.isprintable() or (kind == "user" and name == TOKEN_NAME):
        raise ConfigError(f"{source}: {kind} name {name[:64]!r}: 1 to 64 characters, no colon, printable")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"member {name[:64]!r} occurs twice")
        found[name] = value
    return found


def _entries(data: dict[str, Any], name: str, source: str) -> list[tuple[str, Any]]:
    """Return the members of an object of the file, without remarks: texts whose names begin with `_`."""
    value = data.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{source}: {name} must be an object")
    return [(key, entry) for key, entry in value.items() if not (key.startswith("_") and isinstance(entry, str))]


def _rights(name: str, value: Any, source: str) -> int:
    if isinstance(value, dict):  # as the node's example has it
        unknown = unknown_members(value, {"permissions", *_ROLE_REMARKS})
        if unknown:
            raise ConfigError(
                f"{source}: role {name!r} has the unknown member {min(unknown)!r}; accepted is permissions"
            )
        value = value.get("permissions")
    if isinstance(value, str) and _HEX_RIGHTS.fullmatch(value):
        value = int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ALL_RIGHTS:
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return parse_rights(",".join(value), f"{source}: role {name!r}") if value else 0
    raise ConfigError(f"{source}: role {name!r} must be a list of permissions, or their bits as a number or as 0x003F")


def _user(name: str, entry: Any, roles: Mapping[str, int], source: str) -> User:
    check_name(name, source)
    if not isinstance(entry, dict):
        raise ConfigError(f"{source}: user {name!r} must be an object")
    unknown = unknown_members(entry, {"password_hash", "salt", "role", "scheme", "wallets"})
    if unknown:
        raise ConfigError(f"{source}: user {name!r} has the unknown member {min(unknown)!r}")
    role = entry.get("role")
    if not isinstance(role, str) or role not in roles:
        raise ConfigError(f"{source}: user {name!r} has the role {role!r}; known are {', '.join(sorted(roles))}")
    scheme = entry.get("scheme", NODE_SCHEME)
    try:
        salt, digest = bytes.fromhex(entry["salt"]), bytes.fromhex(entry["password_hash"])
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{source}: user {name!r} needs salt and password_hash, both hex") from None
    if len(digest) != 32 or not 8 <= len(salt) <= 64 or not isinstance(scheme, str):
        raise ConfigError(
            f"{source}: user {name!r} needs a password_hash of 32 bytes, a salt of 8 to 64, a scheme like {SCHEMES[0]}"
        )
    try:
        password = StoredPassword(scheme, salt, digest)
        return User(name, role, roles[role], password, wallets=parse_wallets(entry, f"{source}: user {name!r}"))
    except ConfigError as error:
        raise ConfigError(f"{source}: user {name!r}: {error}") from None
