"""Authenticate clients: passwords, lock-out after failures, and users that change while they are connected.

Nothing here acts on a connection. Each decision is a value: None if the session is logged in, otherwise a `Denial`, or
`NeedsPassword` if a slow hash has to be computed first.

Users change while sessions are opened and passwords are verified, in other threads. The new directory is in place before
the open sessions are listed and refreshed, and every login and every `on_open` refreshes its session after it has become
visible. One lock covers each of these steps, but not the slow hash. So whichever comes last has seen the new users and
the latest login, and a session cannot keep old rights, nor those of a token that it had before.
`EventHub.subscribe` checks a second time for the same reason, after its cursor is registered.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from ..config.config import Config
from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..session import Session
from ..util.clock import Clock, unix_time
from ..util.dedicated_threads import DedicatedThreads
from ..util.thread_contracts import any_thread
from .api_tokens import TOKEN_SESSION_PREFIX, ApiToken
from .audit_log import AuditLog
from .credentials import TOKEN_NAME, Credentials
from .denial import Denial, DenialKind, NeedsPassword
from .lockout import Lockout
from .password_cache import PasswordCache
from .permissions import UNDECLARED, WALLET_RIGHTS
from .users import User, UserDirectory

__all__ = ["Authenticator"]

WRONG_PASSWORD = "Wrong user or password"
EXPIRED = "this token has expired"
LOCKED_OUT = "Too many failed authentication attempts. Try again later."

UNAUTHORIZED = Denial(kind=DenialKind.CREDENTIALS, message="Unauthorized - Invalid or missing credentials")
_REMOVED, _REVOKED = "this user has been removed", "this token has been revoked"
_MAX_CACHED_PASSWORDS = 4096


class _Attempt(NamedTuple):
    """One login, before its password was verified.

    Attributes:
        session: the client.
        credentials: what it has sent.
        directory: the users at that moment: those that replace them may have this password.
        user: the user of this name, or None.
        guess: a hash of the credentials (see `PasswordCache.fingerprint`).
    """

    session: Session
    credentials: Credentials
    directory: UserDirectory
    user: User | None
    guess: bytes


class Authenticator:
    """Decides who a client is. Thread-safe.

    Args:
        config: whether there are users, and the limits of logins.
        directory: the users.
        clock: seconds that never go backwards.
        audit: records logins and failures.
        unix_time: seconds of Unix time, by which tokens expire.
    """

    def __init__(
        self,
        config: Config,
        directory: UserDirectory,
        clock: Clock,
        audit: AuditLog,
        unix_time: Clock = unix_time,
    ) -> None:
        self._unix_time = unix_time
        self._limits = config.limits
        self._directory = directory
        self._audit = audit
        self._cache = PasswordCache(clock, config.limits.logins.password_cache_ttl, _MAX_CACHED_PASSWORDS)
        self._lockout = Lockout(clock, config.limits)
        self._hashing = DedicatedThreads(config.limits.logins.login_workers, "dilithion-ws-hash")
        self._identity_lock = threading.Lock()  # guards user, token, rights and authorization of all sessions

    @any_thread
    def close(self) -> None:
        """End the threads that verify passwords."""
        self._hashing.stop()

    @property
    def tracked_addresses(self) -> int:
        """Addresses with failed logins that are remembered."""
        return len(self._lockout)

    @any_thread
    def login_priority(self, session: Session) -> int:
        """Return the priority of a client's logins in a full queue (see `Lockout.priority`)."""
        return self._lockout.priority(session.rate_limit_key)

    @any_thread
    def check_credentials(self, session: Session, credentials: Credentials | None) -> Denial | NeedsPassword | None:
        """Decide on the credentials of a request, as far as that is possible without the slow hash.

        Args:
            session: the client; it is logged in if the credentials were verified recently.
            credentials: None if they are malformed.
        """
        given = credentials or Credentials("", "")
        if given.name == TOKEN_NAME:
            return None if self._log_in_by_token(session, given) else UNAUTHORIZED
        attempt = self._make_attempt(session, given)
        denial = self._check_lockout(attempt)
        if denial is not None:
            return denial
        if attempt.user is not None and self._cache.has(attempt.guess):
            self._log_in(session, attempt.user)
            return None
        if credentials is None or self._lockout.has_failed(session.rate_limit_key, given.name, attempt.guess):
            self._record_failure(attempt)
            return UNAUTHORIZED
        return NeedsPassword(*given)

    @any_thread
    def verify_credentials(self, session: Session, credentials: NeedsPassword) -> Denial | None:
        """Verify the credentials of a request. Slow: it runs in the pool."""
        attempt = self._make_attempt(session, Credentials(credentials.name, credentials.password))
        denial = self._check_lockout(attempt)  # other logins may have failed in the meantime
        if denial is not None:
            return denial
        user = self._verify(attempt)
        if user is not None:
            self._log_in(session, user)
        if session.user is None or not session.is_authorized:
            return UNAUTHORIZED
        return None

    @any_thread
    def log_in(self, session: Session, name: str, password: str) -> User | ApiToken | Denial:
        """Log an open connection in. Slow: it runs in the pool.

        Returns:
            The user or the token; or a denial, which closes the connection after too many failures.
        """
        credentials = Credentials(name, password)
        denial = Denial(kind=DenialKind.CREDENTIALS, message=WRONG_PASSWORD)
        if name == TOKEN_NAME:
            token = self._log_in_by_token(session, credentials)
            if token is not None:
                return token
        else:
            attempt = self._make_attempt(session, credentials)
            locked = self._check_lockout(attempt)
            user = self._verify(attempt) if locked is None else None
            if user is not None:
                self._log_in(session, user)
                return user
            denial = locked or denial
        session.failed_logins += 1
        if session.failed_logins < self._limits.logins.login_failures:
            return denial
        status = CloseStatus(CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "login_failures"))
        return msgspec.structs.replace(denial, close_after=status)

    @any_thread
    def check_expiry(self, session: Session) -> CloseStatus | float:
        """Return how to close a session whose token has expired, or the seconds until that. Infinity stands for never."""
        token = session.token
        expires = token.limits.expires if token is not None else None
        if expires is None:
            return math.inf
        left: float = expires - self._unix_time()
        return left if left > 0 else CloseStatus(CloseCode.NOT_AUTHENTICATED, EXPIRED)

    @any_thread
    def expires_in(self, session: Session) -> float:
        """Return the seconds until the token of a session expires, or infinity."""
        left = self.check_expiry(session)
        return 0.0 if isinstance(left, CloseStatus) else left

    def _make_attempt(self, session: Session, credentials: Credentials) -> _Attempt:
        directory = self._directory
        user = directory.get(credentials.name)
        return _Attempt(session, credentials, directory, user, self._cache.fingerprint(credentials, user))

    def _check_lockout(self, attempt: _Attempt) -> Denial | None:
        """Decide whether a lock-out holds for a login: not for the cookie, and not for a remembered password."""
        session, name, user, guess = attempt.session, attempt.credentials.name, attempt.user, attempt.guess
        seconds = self._lockout.locked_for(session.rate_limit_key, name)
        if not seconds or (user is not None and user.is_unguessable):
            return None
        if self._lockout.may_be_remembered(session.rate_limit_key, name, guess) and self._cache.has(guess):
            return None
        self._audit.record("refused", address=session.address[0], reason="locked out")
        return Denial(kind=DenialKind.LOCKED_OUT, message=LOCKED_OUT, retry_after=seconds)

    def _verify(self, attempt: _Attempt) -> User | None:
        key, credentials = attempt.session.rate_limit_key, attempt.credentials
        if attempt.user is not None and self._cache.has(attempt.guess):
            # It does not clear failures: those of a guesser would be cleared by each request of a program that polls.
            return attempt.user
        user = None
        if not self._lockout.has_failed(key, credentials.name, attempt.guess):
            user = self._hashing.run(attempt.directory.check, *credentials)
        if user is None:
            self._record_failure(attempt)
        else:
            self._cache.add(credentials, user)
            self._lockout.record_success(key, user.name)
        return user

    def _log_in_by_token(self, session: Session, credentials: Credentials) -> ApiToken | None:
        """Log a session in by an API token. Return None, after recording the failure, if it may not be used."""
        token = self._directory.find_token(credentials.password)
        reason = "unknown token" if token is None else self._refuse_token(token, session)
        if token is None or reason:
            name = TOKEN_SESSION_PREFIX + token.name if token is not None else None
            self._record_failure(self._make_attempt(session, credentials), user=name, reason=reason)
            return None
        self._log_in_as(session, token)
        return token if session.is_authorized else None

    @any_thread
    def log_in_by_certificate(self, session: Session, digest: bytes) -> bool:
        """Log a session in by its TLS certificate. Return whether the users file has it, and it may be used.

        Args:
            session: the client.
            digest: the SHA-256 of a certificate that TLS has verified.
        """
        token = self._directory.find_certificate(digest)
        if token is None:
            return False
        reason = self._refuse_token(token, session)
        if reason:
            user = TOKEN_SESSION_PREFIX + token.name
            self._audit.record("login failed", address=session.address[0], user=user, reason=reason)
            return False
        self._log_in_as(session, token)
        return session.is_authorized

    def _log_in_as(self, session: Session, token: ApiToken) -> None:
        self._set_identity(session, TOKEN_SESSION_PREFIX + token.name, token.role, token)

    def _refuse_token(self, token: ApiToken, session: Session) -> str:
        """Return why a token may not be used now and from here, or nothing."""
        if token.limits.expires is not None and token.limits.expires <= self._unix_time():
            return "expired token"
        return "" if token.limits.allows_address(session.address[0]) else "token from another network"

    def _log_in(self, session: Session, user: User) -> None:
        self._set_identity(session, user.name, user.role, None)

    def _set_identity(self, session: Session, name: str, role: str, token: ApiToken | None) -> None:
        self._audit.record("login", address=session.address[0], user=name, hourly=session.is_request, role=role)
        with self._identity_lock:
            session.user = name
            session.token = token
            session.is_authorized = True
            removed = self._refresh(session)  # the users may have changed while the password was being verified
        if removed:
            self._audit.record("removed", address=session.address[0], user=removed)

    def _record_failure(self, attempt: _Attempt, *, user: str | None = None, **details: Any) -> None:
        key, host, name = attempt.session.rate_limit_key, attempt.session.address[0], attempt.credentials.name
        if user is None and attempt.user is not None:
            user = name
        lock = self._lockout.record_failure(key, name, attempt.guess)
        # An unknown name may be a password that was typed into the wrong field: it is not written to the log.
        self._audit.record("login failed", address=host, user=user, **details)
        if lock is not None:
            self._audit.record("locked out", address=host, user=user, seconds=lock.seconds, scope=lock.scope.value)

    # Users that change

    @any_thread
    def replace_directory(self, directory: UserDirectory) -> set[str]:
        """Use other users from now on. Call `refresh_rights` for each open session afterwards.

        Returns:
            The names of users that there were and are not any more, as sessions have them. A token that was made again
            under its old name is another one.
        """
        previous, self._directory = self._directory, directory
        removed = previous.names() - directory.names()
        return removed | {TOKEN_SESSION_PREFIX + name for name, _ in previous.token_names() - directory.token_names()}

    @any_thread
    def refresh_all(self, sessions: Iterable[Session]) -> list[Session]:
        """Give open sessions the rights that their users have now.

        Returns:
            The sessions with a user. Their subscriptions have to be checked again, and those with `close_after` closed.
        """
        with_user = [session for session in sessions if session.user is not None]
        for session in with_user:
            self.refresh_rights(session)
        return with_user

    def _renew(self, token: ApiToken, session: Session) -> ApiToken | None:
        """Return what the file has of a token now, or None if its session must end."""
        current = self._directory.renew(token)
        if current is None or current.name != token.name or not current.limits.allows_address(session.address[0]):
            return None
        return current

    @any_thread
    def refresh_rights(self, session: Session) -> None:
        """Give a session the rights that its user has now. If the user was removed, mark it to be closed with 4401."""
        with self._identity_lock:
            removed = self._refresh(session)
        if removed:
            self._audit.record("removed", address=session.address[0], user=removed)

    def _refresh(self, session: Session) -> str | None:
        """Do that under the lock. Return the user's name if the user was removed just now."""
        assert self._identity_lock.locked()
        if session.user is None:
            return None
        token = session.token
        current = self._directory.get(session.user) if token is None else self._renew(token, session)
        if current is not None:
            session.rights = _rights_in(current, session.wallet)
            if token is not None:
                session.token = current
            return None
        was_authorized, session.is_authorized, session.rights = session.is_authorized, False, 0
        if was_authorized:
            status = CloseStatus(CloseCode.NOT_AUTHENTICATED, _REMOVED if token is None else _REVOKED)
            session.close_after = status
        return session.user if was_authorized else None


def _rights_in(account: User | ApiToken, wallet: str | None) -> int:
    """Return the rights that a user or a token has in a wallet. Outside of those it is restricted to, it may use none."""
    if account.wallets is None or wallet in account.wallets:
        return account.rights
    return account.rights & ~(WALLET_RIGHTS | UNDECLARED)  # an undeclared method may be about wallets
