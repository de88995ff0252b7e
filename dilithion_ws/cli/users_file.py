"""The users file, as the commands that edit it read and write it."""

from __future__ import annotations

from ..auth.permissions import ROLES
from ..auth.users import UsersFile, parse_users, render_users
from ..errors import ConfigError
from ..util.files import read_bounded_text, replace_private_file

__all__ = ["load_users", "role_rights", "save_users"]

MOST_CHARACTERS = 8 << 20


def load_users(path: str) -> UsersFile:
    """Read a users file. One that does not exist is empty. Raise ConfigError if it cannot be used."""
    try:
        return parse_users(read_bounded_text(path, MOST_CHARACTERS), path)
    except FileNotFoundError:
        return UsersFile({}, {})
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None


def save_users(path: str, file: UsersFile) -> None:
    """Replace a users file as a whole, readable for its owner only. Raise ConfigError if that fails."""
    try:
        replace_private_file(path, render_users(file))
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None


def role_rights(file: UsersFile, role: str, path: str) -> int:
    """Return the rights of a role. Raise ConfigError if there is none of this name."""
    roles = {**ROLES, **file.roles}
    if role not in roles:
        raise ConfigError(f"{path}: there is no role {role!r}; known are {', '.join(sorted(roles))}")
    return roles[role]
