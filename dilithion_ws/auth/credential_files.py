"""The files that access depends on: users, cookie, audit log. They are read, made, watched and removed here.

The watch looks every second whether a file has another time, size or identity than before. A change is noticed however
it was made: in place, by a rename, or through a link.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable

from ..config.config import Config
from ..errors import ConfigError
from ..util.clock import Clock, monotonic
from ..util.files import read_bounded_text, replace_private_file
from .audit_log import AuditLog
from .passwords import NODE_SCHEME, hash_password
from .permissions import ALL_RIGHTS
from .users import User, UserDirectory, check_name, parse_users

__all__ = ["COOKIE_USER", "CredentialFiles"]

logger = logging.getLogger("dilithion_ws")

COOKIE_USER = "__cookie__"
_WATCH_SECONDS = 1.0
_MOST_CHARACTERS = 8 << 20

_Mark = tuple[int, int, int]


class CredentialFiles:
    """The files of one running server.

    Args:
        config: which files.

    Raises:
        ConfigError: the cookie or the audit log can't be written.
    """

    def __init__(self, config: Config, clock: Clock = monotonic) -> None:
        self._config = config
        self._fixed: list[User] = []
        self._cookie = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._marks: dict[str, _Mark | None] = {path: _mark(path) for path in self._watched()}
        if config.user:
            check_name(config.user, "rpcuser")
            self._fixed.append(User(config.user, "admin", ALL_RIGHTS, hash_password(config.password)))
        if config.cookie_file:
            secret = secrets.token_hex(16)
            self._cookie = f"{COOKIE_USER}:{secret}"
            # A random secret needs no slow hash.
            self._fixed.append(User(COOKIE_USER, "admin", ALL_RIGHTS, hash_password(secret, NODE_SCHEME)))
        limits = config.limits
        try:
            rate = (limits.rates.audit_burst, limits.rates.audit_rate)
            self.audit = AuditLog(config.audit_log, clock, rate, limits.rates.tracked_clients)
        except OSError as error:
            raise ConfigError(f"rpcwebsocketauditlog: {config.audit_log} can't be written: {error.strerror}") from None

    def write_cookie(self) -> None:
        """Writes the cookie, as `__cookie__:` and 32 hex digits, for the owner alone; nothing where none is asked for.

        To be called once the port is ours: a second start on a port in use must leave the running server's cookie.

        Raises:
            ConfigError: it can't be written.
        """
        if self._cookie:
            path = self._config.cookie_file
            try:
                replace_private_file(path, self._cookie)
            except OSError as error:
                raise ConfigError(f"rpcwebsocketcookiefile: {path} can't be written: {error.strerror}") from None

    def load(self) -> UserDirectory:
        """All users there are now.

        Raises:
            ConfigError: the users file can't be used.
        """
        users = list(self._fixed)
        if self._config.users_file:
            found = parse_users(_read(self._config.users_file), self._config.users_file).users
            for user in self._fixed:
                if user.name in found:
                    raise ConfigError(
                        f"{self._config.users_file}: user {user.name!r} is also rpcuser; use one of the two"
                    )
            users += found.values()
        return UserDirectory(users)

    def watch(self, changed: Callable[[], object]) -> None:
        """Calls `changed` whenever a file has changed, from a thread that exists only where there are such files."""
        if self._watched():
            self._thread = threading.Thread(
                target=self._watch, args=(changed,), name="dilithion-ws-watcher", daemon=True
            )
            self._thread.start()

    def _watched(self) -> list[str]:
        config = self._config
        return [path for path in (config.users_file, config.certificate, config.private_key, config.client_ca) if path]

    def close(self) -> None:
        """Removes the cookie and ends the watch."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_WATCH_SECONDS)
        if self._cookie and _first_bytes(self._config.cookie_file) == self._cookie.encode():
            try:
                os.unlink(self._config.cookie_file)
            except OSError as error:
                logger.warning("the cookie %s can't be removed: %s", self._config.cookie_file, error.strerror)
        self._cookie = ""
        self.audit.close()

    def _watch(self, changed: Callable[[], object]) -> None:
        # From before the files were read: what changed since then has not been seen.
        before = self._marks
        while not self._ended.wait(_WATCH_SECONDS):
            now = {path: _mark(path) for path in before}
            if now != before:
                before = now
                try:
                    changed()
                except Exception:
                    logger.exception("reloading after a change of files failed")


def _mark(path: str) -> _Mark | None:
    """What tells one version of a file from another."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: str) -> str:
    """The text of a file with hashes; raises ConfigError where it can't be read, and warns where others can."""
    try:
        text = read_bounded_text(path, _MOST_CHARACTERS)
        if stat.S_IMODE(os.stat(path).st_mode) & 0o007:
            logger.warning("%s can be read by every user of this machine; chmod 600 it", path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    return text


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(100)
    except OSError:
        return b""
