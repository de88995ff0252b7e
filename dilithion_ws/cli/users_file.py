"""What the commands that edit the users file share: their actions, and reading and writing the file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from ..auth.permissions import ROLES
from ..auth.users import UsersFile, parse_users, render_users
from ..errors import ConfigError
from ..util.files import read_bounded_text, replace_private_file
from .config_options import USERS

__all__ = ["add_actions", "add_wallets", "list_items", "load_users", "role_rights", "save_users"]

MOST_CHARACTERS = 8 << 20


def add_actions(
    parser: argparse.ArgumentParser, helps: Mapping[str, str], what: str, run: Callable[[argparse.Namespace], None]
) -> dict[str, argparse.ArgumentParser]:
    """Add actions to a command, and return their parsers by name.

    Args:
        parser: of the command.
        helps: what each action does; `list` is about all entries, the others about one.
        what: one entry.
        run: carries out an action. If it raises ConfigError, that is printed, and the exit status is 1.
    """

    def carry_out(options: argparse.Namespace) -> int:
        try:
            run(options)
        except ConfigError as error:
            print(f"dilithion-ws: {error}", file=sys.stderr)
            return 1
        return 0

    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    found = {}
    for name, help in helps.items():
        action = found[name] = actions.add_parser(name, help=help, description=help.capitalize() + ".")
        if name != "list":
            action.add_argument("name", help=f"the {what}'s name")
        action.add_argument("--file", default=USERS, help="the users file (default: %(default)s)")
        action.add_argument("--verbose", action="store_true", help=argparse.SUPPRESS)
        action.set_defaults(run=carry_out, action=name)
    return found


def add_wallets(parser: argparse.ArgumentParser) -> None:
    """Add the option that restricts a user or a token to some wallets."""
    text = "the only wallets that it may use, by the path /wallet/NAME of a gateway, joined by commas"
    parser.add_argument("--wallets", metavar="LIST", help=text)


def list_items(text: str, option: str) -> list[str]:
    """Return the items of a list. Raise ConfigError if there are none."""
    found = [item.strip() for item in text.split(",") if item.strip()]
    if not found:
        raise ConfigError(f"{option} is empty; leave it out to allow all")
    return found


def load_users(path: str) -> UsersFile:
    """Read a users file. One that does not exist is empty. Raise ConfigError if it cannot be used."""
    try:
        return parse_users(read_bounded_text(path, MOST_CHARACTERS), path)
    except FileNotFoundError:
        return UsersFile({}, {})
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None


def save_users(path: str, file: UsersFile) -> None:
    """Replace a users file as a whole. Those who could read it still can. Raise ConfigError if that fails."""
    try:
        replace_private_file(path, render_users(file), keep_readers=True)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from None


def role_rights(file: UsersFile, role: str, path: str) -> int:
    """Return the rights of a role. Raise ConfigError if there is none of this name."""
    roles = {**ROLES, **file.roles}
    if role not in roles:
        raise ConfigError(f"{path}: there is no role {role!r}; known are {', '.join(sorted(roles))}")
    return roles[role]
