"""Who a client is: credentials checked, failures counted, users that change while they are connected.

Passwords are checked in the pool only, for they are slow on purpose: `begin` answers from what is remembered, and
otherwise says that `check` has to be called there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..auth.audit_log import AuditLog
from ..auth.credentials import Credentials
from ..auth.password_cache import PasswordCache
from ..auth.rate_limiter import Lockout
from ..auth.users import User, UserDirectory
from ..config.config import Config
from ..config.limits import limit_reached
from ..errors import CloseCode, JsonRpcCode, RpcError
from ..protocol.http_connection import HttpRefusal
from ..rpc.context import CallContext, Session
from ..rpc.method import Method
from ..util.clock import Clock
from .refusals import CHALLENGE, LOCKED_OUT, LOGIN_STEPS, UNAUTHORIZED, rate_limited, retry_after

__all__ = ["Authenticator"]

_REMEMBERED_MOST = 1000


class Authenticator:
    """The users of one server, and who of them is who.

    Args:
        config: whether users are needed, and limits.
        directory: the users.
        clock: seconds that never go backwards.
        audit: where outcomes are noted.
        strike: counts a client that tries although it may not.

    Attributes:
        close: closes a connection once its calls are answered; to be set.
        rights_changed: told when a session may do other things than before; to be set.
    """

    def __init__(
        self,
        config: Config,
        directory: UserDirectory,
        clock: Clock,
        audit: AuditLog,
        strike: Callable[[Session, str, float], RpcError],
    ) -> None:
        limits = config.limits
        self._limits = limits
        self._has_users = config.has_users
        self._directory = directory
        self._audit = audit
        self._strike = strike
        self._remembered = PasswordCache(clock, limits.logins.login_remembered, _REMEMBERED_MOST)
        self._lockout = Lockout(
            clock,
            limits.logins.login_failures,
            limits.logins.lockout,
            limits.logins.lockout_longest,
            limits.rates.tracked_clients,
        )
        self.close: Callable[[int, int, str], None] = lambda connection_id, code, reason: None
        self.rights_changed: Callable[[Session], None] = lambda session: None

    def __len__(self) -> int:
        return len(self._lockout)

    def standing(self, session: Session) -> int:
        """How the client's address has done with logins: those of a better one are checked first."""
        return self._lockout.standing(session.origin)

    def begin(self, session: Session, credentials: Credentials | None) -> HttpRefusal | Credentials | None:
        """Looks at the credentials of a request.

        Args:
            session: whose they are.
            credentials: None where they are malformed.

        Returns:
            None where the session is logged in, the refusal, or the credentials that `check` must be called with.
        """
        locked = self._locked_out(session)
        if locked is not None:
            return locked
        if credentials is None:
            self._failed(Credentials("", ""), session)
            return HttpRefusal(401, UNAUTHORIZED, CHALLENGE)
        user = self._remembered.find(credentials, self._directory)
        if user is None:
            return credentials
        self._lockout.succeeded(session.origin, user.name)
        self._admit(session, user)
        return None

    # `check` and `authenticate` run in the pool.

    def check(self, credentials: Credentials, session: Session) -> HttpRefusal | None:
        """Checks a password and logs the session in; returns the refusal where it is wrong."""
        refusal = self._locked_out(session)  # others of this address may have failed while this one waited
        if refusal is not None:
            return refusal
        user = self._verify(credentials, session)
        if user is not None:
            self._admit(session, user)
        if session.user is None or not session.admitted:
            return HttpRefusal(401, UNAUTHORIZED, CHALLENGE)
        return None

    def authenticate(self, context: CallContext, user: str, password: str) -> dict[str, str | None]:
        """Log in with user and password"""
        session = context.session
        if not self._has_users:
            return {"user": None, "role": "admin"}
        refusal = self.refusal(session)  # others of this address may have failed while this one waited
        if refusal is not None:
            raise refusal
        found = self._verify(Credentials(user, password), session)
        if found is not None:
            self._admit(session, found)
            return {"user": found.name, "role": found.role}
        session.failures += 1
        if session.failures >= self._limits.logins.login_failures:
            text = limit_reached(self._limits, "login_failures")
            self.close(session.connection_id, CloseCode.NOT_AUTHENTICATED, text)
        raise RpcError(JsonRpcCode.NOT_AUTHENTICATED, "Wrong user or password", recovery_steps=LOGIN_STEPS)

    def methods(self) -> dict[str, Method]:
        """The call `authenticate`."""
        method = Method("authenticate", self.authenticate, None, True, "Log in with user and password")
        method.is_login = True
        return {method.name: method}

    def refusal(self, session: Session) -> RpcError | None:
        """Why a client may not try to log in now; None where it may."""
        wait = self._lockout.locked_for(session.origin) if self._has_users else 0.0
        if not wait:
            return None
        self._strike(session, limit_reached(self._limits, "login_failures"), wait)
        return rate_limited(LOCKED_OUT, wait)

    def _verify(self, credentials: Credentials, session: Session) -> User | None:
        directory = self._directory
        user = self._remembered.find(credentials, directory) or directory.check(*credentials)
        if user is None:
            self._failed(credentials, session)
        else:
            self._remembered.add(credentials, user)
            self._lockout.succeeded(session.origin, user.name)
        return user

    def _admit(self, session: Session, user: User) -> None:
        session.user = user.name
        session.rights = user.rights
        session.admitted = True
        self._audit.note("login", address=session.address[0], user=user.name, role=user.role)
        self.bring_up_to_date(session)  # the users may have changed while the password was checked

    def _locked_out(self, session: Session) -> HttpRefusal | None:
        wait = self._lockout.locked_for(session.origin)
        if not wait:
            return None
        self._audit.note("refused", address=session.address[0], reason="locked out")
        return HttpRefusal(429, LOCKED_OUT, retry_after(wait))

    def _failed(self, credentials: Credentials, session: Session) -> None:
        host = session.address[0]
        seconds = self._lockout.failed(session.origin, credentials.name)
        known = self._directory.get(credentials.name) is not None
        # A name that nobody has may be a password typed into the wrong field: it is not noted.
        self._audit.note("login failed", address=host, user=credentials.name if known else None)
        if seconds:
            self._audit.note("locked out", address=host, seconds=seconds)

    # Users that change

    def replace_directory(self, directory: UserDirectory, sessions: Callable[[], Iterable[Session]]) -> None:
        """Takes new users: changed roles count from the next call, who is gone is closed with 4401.

        Args:
            directory: the users from now on.
            sessions: returns the open ones; asked after the change, so that whoever opens later has met the new users.
        """
        self._directory = directory
        for session in sessions():
            if session.user is not None:
                self.bring_up_to_date(session)

    def bring_up_to_date(self, session: Session) -> None:
        """Gives a session the rights that its user has now."""
        assert session.user is not None
        user = self._directory.get(session.user)
        if user is not None:
            session.rights = user.rights
            self.rights_changed(session)
        elif session.admitted:
            session.admitted = False
            session.rights = 0
            self.rights_changed(session)
            self._audit.note("removed", address=session.address[0], user=session.user)
            self.close(session.connection_id, CloseCode.NOT_AUTHENTICATED, "this user has been removed")
