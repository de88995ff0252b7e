"""The files that authentication depends on: users, cookie and audit log."""

from __future__ import annotations

import logging
import os
import secrets

from ..config.config import Config
from ..errors import ConfigError
from ..util.clock import Clock, monotonic
from ..util.files import permissions_of, read_bounded_text, replace_private_file
from .audit_log import AuditLog
from .passwords import NODE_SCHEME, hash_password
from .permissions import ALL_RIGHTS
from .rate_limiter import Rate
from .users import User, UserDirectory, check_name, parse_users

__all__ = ["COOKIE_USER", "CredentialFiles"]

logger = logging.getLogger("dilithion_ws")

COOKIE_USER = "__cookie__"
_MAX_FILE_CHARACTERS = 8 << 20


class CredentialFiles:
    """The files of one running server.

    Args:
        config: the paths.
        clock: seconds that never go backwards.

    Attributes:
        audit: the audit log.

    Raises:
        ConfigError: the audit log cannot be written, or `rpcuser` is not a valid name.
    """

    def __init__(self, config: Config, clock: Clock = monotonic) -> None:
        self._config = config
        self._configured_users: list[User] = []
        self._replaced: set[str] = set()  # their names that the file has had
        self._cookie = ""
        if config.user:
            check_name(config.user, "rpcuser")
            self._configured_users.append(User(config.user, "admin", ALL_RIGHTS, hash_password(config.password)))
        if config.cookie_file:
            secret = secrets.token_hex(16)
            self._cookie = f"{COOKIE_USER}:{secret}"
            # A random secret needs no slow hash.
            password = hash_password(secret, NODE_SCHEME)
            self._configured_users.append(User(COOKIE_USER, "admin", ALL_RIGHTS, password, is_unguessable=True))
        rates = config.limits.rates
        try:
            rate = Rate(rates.audit_burst, rates.audit_rate)
            self.audit = AuditLog(config.audit_log, clock, rate, rates.max_tracked_clients)
        except OSError as error:
            raise ConfigError(
                f"rpcwebsocketauditlog: {config.audit_log} can't be written: {error.strerror}", "rpcwebsocketauditlog"
            ) from None

    def watched_paths(self) -> list[str]:
        """Return the files whose change needs a reload."""
        config = self._config
        return [path for path in (config.users_file, config.certificate, config.private_key, config.client_ca) if path]

    def write_cookie(self) -> None:
        """Write the cookie, `__cookie__:` and 32 hex digits, with mode 0600. Do nothing if none is configured.

        Call it only after the port is bound: a second start on a port in use must not replace the cookie of the server
        that is running there.

        Raises:
            ConfigError: it cannot be written.
        """
        if self._cookie:
            path = self._config.cookie_file
            try:
                replace_private_file(path, self._cookie)
            except OSError as error:
                raise ConfigError(
                    f"rpcwebsocketcookiefile: {path} can't be written: {error.strerror}", "rpcwebsocketcookiefile"
                ) from None

    def load_users(self) -> UserDirectory:
        """Read all users.

        Raises:
            ConfigError: the users file cannot be used.

        A user of the file takes the place of `rpcuser` with the same name, as the node's own set-up has both. That holds
        until a restart: when the file's user is removed, its sessions must not go on as another one's.
        """
        path = self._config.users_file
        if not path:
            return UserDirectory(self._configured_users)
        file = parse_users(_read_users_file(path), path)
        for user in self._configured_users:
            if user.name not in file.users or user.name in self._replaced:
                continue
            if user.is_unguessable:
                raise ConfigError(f"{path}: user {user.name!r} is the cookie's; use another name")
            logger.warning("%s has the user %r, which is also rpcuser: its password and role hold", path, user.name)
            self._replaced.add(user.name)
        configured = [user for user in self._configured_users if user.name not in self._replaced]
        return UserDirectory([*configured, *file.users.values()], file.tokens.values())

    def close(self) -> None:
        """Remove the cookie, if it is still this server's, and close the audit log."""
        if self._cookie and _read_start(self._config.cookie_file) == self._cookie.encode():
            try:
                os.unlink(self._config.cookie_file)
            except OSError as error:
                logger.warning("the cookie %s can't be removed: %s", self._config.cookie_file, error.strerror)
        self._cookie = ""
        self.audit.close()


def _read_users_file(path: str) -> str:
    """Return the text of a file with hashes, and log a warning if every user of the machine can read it."""
    try:
        text = read_bounded_text(path, _MAX_FILE_CHARACTERS)
        if permissions_of(path) & 0o007:
            logger.warning("%s can be read by every user of this machine; chmod 600 it", path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    return text


def _read_start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(100)
    except OSError:
        return b""
