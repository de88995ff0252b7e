"""`dilithion-ws user`: edits the users file, `rpc_permissions.json`. A running server notices by itself."""

from __future__ import annotations

import argparse
import getpass
import sys
from dataclasses import replace

from ..auth.passwords import SCHEMES, hash_password
from ..auth.permissions import ROLES
from ..auth.users import User, UsersFile, check_name
from ..errors import ConfigError
from .config_options import USERS
from .users_file import add_actions, add_wallets, list_items, load_users, role_rights, save_users

__all__ = ["add_user"]

LEAST_PASSWORD = 8


def add_user(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "user",
        help="edit the users file",
        description=f"Adds, lists and removes users, and changes their passwords, in {USERS}. The file is replaced as a "
        "whole and readable for its owner only. The password is prompted for, or read from standard input.",
    )
    helps = {
        "add": "add a user",
        "list": "list the users and their roles",
        "remove": "remove a user",
        "passwd": "change a user's password",
    }
    actions = add_actions(parser, helps, "user", edit)
    actions["add"].add_argument("--role", default="readonly", help=f"{', '.join(ROLES)}, or one of the file's own")
    add_wallets(actions["add"])
    for name in ("add", "passwd"):
        actions[name].add_argument("--scheme", choices=SCHEMES, default=SCHEMES[0], help="how the password is stored")


def edit(options: argparse.Namespace) -> None:
    """Carry out one action. Raise ConfigError, and leave the file as it is, if that is impossible."""
    file = load_users(options.file)
    if options.action == "list":
        for user in sorted(file.users.values(), key=lambda user: user.name):
            print(f"{user.name}\t{user.role}\t{user.password.scheme}")
    else:
        save_users(options.file, _changed(file, options))


def _changed(file: UsersFile, options: argparse.Namespace) -> UsersFile:
    users, name = dict(file.users), options.name
    if options.action == "add":
        check_name(name, options.file)
        if name in users:
            raise ConfigError(f"{options.file}: there is a user {name!r} already")
        role, rights = options.role, role_rights(file, options.role, options.file)
        wallets = None if options.wallets is None else frozenset(list_items(options.wallets, "--wallets"))
    elif name not in users:
        raise ConfigError(f"{options.file}: there is no user {name!r}")
    else:
        role, rights, wallets = users[name].role, users[name].rights, users[name].wallets
    if options.action == "remove":
        del users[name]
    else:
        users[name] = User(name, role, rights, hash_password(_ask_password(), options.scheme), wallets=wallets)
    return replace(file, users=users)


def _ask_password() -> str:
    """Return a new password: typed twice at a terminal, otherwise the first line of standard input."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if len(password) < LEAST_PASSWORD:
        raise ConfigError(f"a password has at least {LEAST_PASSWORD} characters")
    return password
