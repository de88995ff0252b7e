"""Authenticate clients: passwords, lock-out after failures, and users that change while they are connected.

Nothing here acts on a connection. Each decision is a value: None if the session is logged in, otherwise a `Denial`, or
`NeedsPassword` if a slow hash has to be computed first.

Users change while sessions are opened and passwords are verified, in other threads. No lock covers both. Instead, the new
directory is in place before the open sessions are listed and refreshed, and every login and every `on_open` refreshes its
session after it has become visible. So whichever comes last has seen the new users, and a session cannot keep old rights.
`EventHub.subscribe` checks a second time for the same reason, after its cursor is registered.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..config.config import Config
from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..session import Session
from ..util.clock import Clock
from .audit_log import AuditLog
from .credentials import Credentials
from .denial import Denial, DenialKind, NeedsPassword
from .lockout import Lockout
from .password_cache import PasswordCache
from .users import User, UserDirectory

__all__ = ["Authenticator"]

UNAUTHORIZED = "Unauthorized - Invalid or missing credentials"
WRONG_PASSWORD = "Wrong user or password"
LOCKED_OUT = "Too many failed authentication attempts. Try again later."

_MAX_CACHED_PASSWORDS = 4096


class Authenticator:
    """Decides who a client is. Thread-safe.

    Args:
        config: whether there are users, and the limits of logins.
        directory: the users.
        clock: seconds that never go backwards.
        audit: records logins and failures.
    """

    def __init__(self, config: Config, directory: UserDirectory, clock: Clock, audit: AuditLog) -> None:
        self._limits = config.limits
        self._has_users = config.has_users
        self._directory = directory
        self._audit = audit
        self._cache = PasswordCache(clock, config.limits.logins.password_cache_ttl, _MAX_CACHED_PASSWORDS)
        self._lockout = Lockout(clock, config.limits)

    @property
    def tracked_addresses(self) -> int:
        """Addresses with failed logins that are remembered."""
        return len(self._lockout)

    def login_priority(self, session: Session) -> int:
        """Return the priority of a client's logins in a full queue (see `Lockout.priority`)."""
        return self._lockout.priority(session.rate_limit_key)

    def check_credentials(self, session: Session, credentials: Credentials | None) -> Denial | NeedsPassword | None:
        """Decide on the credentials of a request, as far as that is possible without the slow hash.

        Args:
            session: the client; it is logged in if the credentials were verified recently.
            credentials: None if they are malformed.
        """
        # First, since a remembered password that passed a lock-out would let a client guess it without an end.
        locked = self._check_lockout(session, credentials)
        if locked is not None:
            return locked
        given = credentials or Credentials("", "")
        user = self._cache.find(given, self._directory)
        if user is not None:
            self._lockout.record_success(session.rate_limit_key, user.name)
            self._log_in(session, user)
            return None
        guess = self._cache.fingerprint(given, self._directory.get(given.name))
        if credentials is None or self._lockout.has_failed(session.rate_limit_key, given.name, guess):
            self._record_failure(given, guess, session)
            return Denial(kind=DenialKind.CREDENTIALS, message=UNAUTHORIZED)
        return NeedsPassword(*given)

    def verify_credentials(self, session: Session, credentials: NeedsPassword) -> Denial | None:
        """Verify the credentials of a request. Slow: it runs in the pool."""
        given = Credentials(credentials.name, credentials.password)
        locked = self._check_lockout(session, given)  # other logins from this address may have failed in the meantime
        if locked is not None:
            return locked
        user = self._verify(given, session)
        if user is not None:
            self._log_in(session, user)
        if session.user is None or not session.is_authorized:
            return Denial(kind=DenialKind.CREDENTIALS, message=UNAUTHORIZED)
        return None

    def log_in(self, session: Session, name: str, password: str) -> User | Denial:
        """Log an open connection in. Slow: it runs in the pool.

        Returns:
            The user; or a denial, which closes the connection after too many failures.
        """
        user = self._verify(Credentials(name, password), session)
        if user is not None:
            self._log_in(session, user)
            return user
        session.failed_logins += 1
        close_after = None
        if session.failed_logins >= self._limits.logins.login_failures:
            close_after = CloseStatus(CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "login_failures"))
        return Denial(kind=DenialKind.CREDENTIALS, message=WRONG_PASSWORD, close_after=close_after)

    def locked_for(self, session: Session) -> float:
        """Return the seconds for which the client's address is still locked out, or 0."""
        return self._lockout.locked_for(session.rate_limit_key) if self._has_users else 0.0

    def _check_lockout(self, session: Session, credentials: Credentials | None) -> Denial | None:
        seconds = self._lockout.locked_for(session.rate_limit_key)
        user = self._directory.get(credentials.name) if credentials is not None else None
        if not seconds or (user is not None and user.is_unguessable):
            return None
        self._audit.record("refused", address=session.address[0], reason="locked out")
        return Denial(kind=DenialKind.LOCKED_OUT, message=LOCKED_OUT, retry_after=seconds)

    def _verify(self, credentials: Credentials, session: Session) -> User | None:
        directory = self._directory
        user = self._cache.find(credentials, directory)
        # Computed before the slow hash: users that are replaced meanwhile may have this password.
        guess = self._cache.fingerprint(credentials, directory.get(credentials.name))
        if user is None and not self._lockout.has_failed(session.rate_limit_key, credentials.name, guess):
            user = directory.check(*credentials)
        if user is None:
            self._record_failure(credentials, guess, session)
        else:
            self._cache.add(credentials, user)
            self._lockout.record_success(session.rate_limit_key, user.name)
        return user

    def _log_in(self, session: Session, user: User) -> None:
        session.user = user.name
        session.rights = user.rights
        session.is_authorized = True
        self._audit.record("login", address=session.address[0], user=user.name, role=user.role)
        self.refresh_rights(session)  # the users may have changed while the password was being verified

    def _record_failure(self, credentials: Credentials, guess: bytes, session: Session) -> None:
        host = session.address[0]
        known = self._directory.get(credentials.name) is not None
        seconds = self._lockout.record_failure(session.rate_limit_key, credentials.name, guess)
        # An unknown name may be a password that was typed into the wrong field: it is not written to the log.
        self._audit.record("login failed", address=host, user=credentials.name if known else None)
        if seconds:
            self._audit.record("locked out", address=host, seconds=seconds)

    # Users that change

    def replace_directory(self, directory: UserDirectory) -> None:
        """Use other users from now on. Call `refresh_rights` for each open session afterwards."""
        self._directory = directory

    def refresh_all(self, sessions: Iterable[Session]) -> list[Session]:
        """Give open sessions the rights that their users have now.

        Returns:
            The sessions with a user. Their subscriptions have to be checked again, and those with `close_after` closed.
        """
        with_user = [session for session in sessions if session.user is not None]
        for session in with_user:
            self.refresh_rights(session)
        return with_user

    def refresh_rights(self, session: Session) -> None:
        """Give a session the rights that its user has now. If the user was removed, mark it to be closed with 4401."""
        if session.user is None:
            return
        user = self._directory.get(session.user)
        if user is not None:
            session.rights = user.rights
        elif session.is_authorized:
            session.is_authorized = False
            session.rights = 0
            session.close_after = CloseStatus(CloseCode.NOT_AUTHENTICATED, "this user has been removed")
            self._audit.record("removed", address=session.address[0], user=session.user)
