"""`dilithion-ws token`: makes, lists and revokes API tokens in the users file. A running server notices by itself."""

from __future__ import annotations

import argparse
import hashlib
import re
import ssl
import time
from dataclasses import replace
from datetime import datetime, timezone

from ..auth.api_tokens import ApiToken, TokenLimits, hash_token, make_token, parse_expiry, parse_networks
from ..auth.users import UsersFile, check_name
from ..errors import ConfigError
from ..util.files import read_bounded_text
from .config_options import USERS
from .users_file import add_actions, add_wallets, list_items, load_users, role_rights, save_users

__all__ = ["add_token"]

_DURATION = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_PEM_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_MAX_CERTIFICATE_CHARACTERS = 1 << 20
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


def add_token(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "token",
        help="make, list and revoke API tokens",
        description=f"Edits the API tokens in {USERS}: passwords for programs, each with a name, a role, and perhaps "
        "methods, networks and an expiry. Only a hash is stored, so a token is shown once.",
    )
    helps = {
        "add": "make a token and print it",
        "list": "list the tokens",
        "revoke": "remove a token; its connections are closed",
    }
    add = add_actions(parser, helps, "token", edit)["add"]
    add.add_argument("--role", default="readonly", help="what it may do (default: %(default)s)")
    add.add_argument("--methods", metavar="LIST", help="the only methods that it may call, joined by commas")
    add.add_argument("--networks", metavar="LIST", help="the only addresses and networks it may come from")
    add_wallets(add)
    add.add_argument("--certificate", metavar="FILE", help="a client's TLS certificate (PEM), in place of a token")
    add.add_argument("--expires", metavar="WHEN", help="a date such as 2027-01-31, or 12h, 30d, 4w from now")


def edit(options: argparse.Namespace) -> None:
    """Carry out one action. Raise ConfigError, and leave the file as it is, if that is impossible."""
    file = load_users(options.file)
    if options.action == "list":
        print_tokens(file)
    elif options.action == "add":
        save_and_print(file, options)
    else:
        revoke(file, options)


def print_tokens(file: UsersFile) -> None:
    """Print one line for each token."""
    for _, token in sorted(file.tokens.items()):
        limits = token.limits
        methods = ",".join(sorted(limits.methods)) if limits.methods is not None else "all methods"
        networks = ",".join(map(str, limits.networks)) or "all networks"
        expires = "never expires"
        if limits.expires is not None:
            moment = datetime.fromtimestamp(limits.expires, timezone.utc).isoformat()
            expires = f"{'expired' if limits.expires <= time.time() else 'expires'} {moment}"
        print(f"{token.name}\t{token.role}\t{methods}\t{networks}\t{expires}")


def save_and_print(file: UsersFile, options: argparse.Namespace) -> None:
    """Add a token to the file, and print it once the file is written."""
    name = options.name
    check_name(name, options.file, "token")
    if name in file.tokens:
        raise ConfigError(f"{options.file}: there is a token {name!r} already")
    rights = role_rights(file, options.role, options.file)
    limits = TokenLimits(
        None if options.methods is None else frozenset(list_items(options.methods, "--methods")),
        () if options.networks is None else parse_networks(list_items(options.networks, "--networks"), "--networks"),
        None if options.expires is None else _expiry(options.expires),
        None if options.wallets is None else frozenset(list_items(options.wallets, "--wallets")),
    )
    secret, is_certificate = make_token(), options.certificate is not None
    digest = _certificate_digest(options.certificate) if is_certificate else hash_token(secret)
    token = ApiToken(name, options.role, rights, digest, limits, is_certificate)
    save_users(options.file, replace(file, tokens={**file.tokens, name: token}))
    if not is_certificate:
        print(secret)


def revoke(file: UsersFile, options: argparse.Namespace) -> None:
    """Remove a token from the file."""
    if options.name not in file.tokens:
        raise ConfigError(f"{options.file}: there is no token {options.name!r}")
    left = {name: token for name, token in file.tokens.items() if name != options.name}
    save_users(options.file, replace(file, tokens=left))


def _certificate_digest(path: str) -> bytes:
    try:
        found = _PEM_CERTIFICATE.search(read_bounded_text(path, _MAX_CERTIFICATE_CHARACTERS))
        if found is None:
            raise ConfigError(f"--certificate: {path} has no certificate in PEM")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0])).digest()
    except OSError as error:
        raise ConfigError(f"--certificate: {path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"--certificate: {path} can't be used: {error}") from None


def _expiry(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        expires = parse_expiry(text, "--expires")
    else:
        expires = float(int(time.time()) + int(found[1]) * _SECONDS[found[2]])
    if expires <= time.time():
        raise ConfigError(f"--expires is {text}, which is over")
    return expires
