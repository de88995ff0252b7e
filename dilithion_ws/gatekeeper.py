"""Decides about every client of one server: who comes in, who it is, what it may call and how often.

It holds together the rules of `access/`, and puts what it decides into the audit log. Passwords are checked in the pool
only: the leader asks what is remembered, and otherwise gets a `Verification` to be run elsewhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping

from .access.credentials import Credentials, from_basic, from_subprotocols
from .access.origin import OriginRules
from .access.permissions import names_of
from .access.rates import DEFAULT_METHOD, method_rates
from .access.remembered import Remembered
from .access.throttle import Lockout, Rate, Throttle
from .access.users import Directory, User
from .addresses import is_loopback, network_of, parse_address
from .audit import Audit
from .clock import Clock
from .config import Config, limit_reached, parse_network
from .errors import CloseCode, JsonRpcCode, RpcError
from .events.topic import Topic
from .needs import find_need, parse_need
from .net.service import Verification, Welcome
from .protocol.framing import Codec
from .protocol.upgrade import Headers, HttpRefusal, UpgradeRequest
from .rpc.context import CallContext, Session
from .rpc.msgpack import MessagePack
from .rpc.table import Method

__all__ = ["SUBPROTOCOLS", "Gatekeeper"]

logger = logging.getLogger("dilithion_ws")

SUBPROTOCOLS: Mapping[str, Codec | None] = {
    "dilithion.v1+msgpack": MessagePack(),
    "dilithion.v1+json": None,
    "dilithion.v1": None,
}
"""Those of the server itself, in the order of its preference."""

_REMEMBERED_MOST = 1000
_CHALLENGE = ((b"WWW-Authenticate", b'Basic realm="Dilithion RPC", charset="UTF-8"'),)
_LOCKED_OUT = "Too many failed authentication attempts. Try again later."
_LOGIN_STEPS = ("Call authenticate with user and password", "Or send HTTP Basic credentials with the upgrade")
_PERMISSION_STEPS = ("Ask the operator for a role with this permission", "Use another user")
_RATE_STEPS = ("Wait for data.retry_after_ms", "Subscribe instead of polling", "Send fewer calls")


class Gatekeeper:
    """The rules of one server.

    Args:
        config: what is allowed.
        directory: the users; empty where none are needed.
        clock: seconds that never go backwards.
        audit: where decisions are noted.
        subprotocols: what clients may ask for, each with its encoding, those that we prefer first.
    """

    def __init__(
        self,
        config: Config,
        directory: Directory,
        clock: Clock,
        audit: Audit,
        subprotocols: Mapping[str, Codec | None] | None = None,
    ) -> None:
        limits = config.limits
        self._subprotocols = SUBPROTOCOLS if subprotocols is None else subprotocols
        self._config = config
        self._limits = limits
        self._directory = directory
        self._clock = clock
        self._audit = audit
        self._origins = OriginRules(config.host, config.allow_hosts, config.allow_origins)
        self._networks = [parse_network(text, "allow_ips (rpcallowip)") for text in config.allow_ips]
        self._remembered = Remembered(clock, limits.login_remembered, _REMEMBERED_MOST)
        self._lockout = Lockout(
            clock, limits.login_failures, limits.lockout, limits.lockout_longest, limits.tracked_clients
        )
        self._throttle = Throttle(clock, limits.tracked_clients)
        self._method_rates = method_rates(config.method_rates)
        self._call_rate = Rate(limits.call_burst, limits.call_rate)
        self._message_rate = Rate(limits.message_burst, limits.message_rate)
        self._byte_rate = Rate(limits.byte_burst, limits.byte_rate)
        self._connection_rate = Rate(limits.connection_burst, limits.connection_rate)
        self.close: Callable[[int, int, str], None] = lambda connection_id, code, reason: None
        self.rights_changed: Callable[[Session], None] = lambda session: None

    # Connections

    def connection_refusal(self, host: str) -> HttpRefusal | None:
        """Why an address may not connect; None where it may. Called by the acceptor for each connection."""
        if self._networks and not is_loopback(host):
            address = parse_address(host)
            if address is None or not any(address in network for network in self._networks):
                self._audit.note("refused", address=host, reason="rpcallowip")
                return HttpRefusal(403, "this address may not connect (rpcallowip)")
        if self._is_limited(host):
            wait = self._throttle.take(("connections", network_of(host)), self._connection_rate)
            if wait:
                self._audit.note("refused", address=host, reason="connection rate")
                text = f"too many connections: {limit_reached(self._limits, 'connection_rate')}"
                return HttpRefusal(429, text, _retry_after(wait))
        return None

    def upgrade(
        self, connection_id: int, address: tuple[str, int], request: UpgradeRequest
    ) -> HttpRefusal | Welcome | Verification:
        """Decides on an upgrade, or says that a password has to be checked for it."""
        host = address[0]
        refusal = self._origins.refusal(request.header(b"host") or "", request.header(b"origin"))
        if refusal is not None:
            self._audit.note("refused", address=host, reason=refusal)
            return HttpRefusal(403, refusal)
        session = Session(connection_id, address)
        session.limited = self._is_limited(host)
        session.origin = network_of(host)
        offers = request.offers()
        headers: Headers = ()
        for name, codec in self._subprotocols.items():
            if name in offers:
                headers = ((b"Sec-WebSocket-Protocol", name.encode()),)
                session.codec = codec
                break
        if not self._config.has_users:
            return _welcome(session, headers)
        authorization = request.header(b"authorization")
        credentials = from_subprotocols(offers) if authorization is None else from_basic(authorization)
        if credentials is None:
            if authorization is not None or any(".bearer." in offer for offer in offers):
                locked = self._locked_out(session)
                if locked is not None:
                    return locked
                self._failed(Credentials("", ""), session)
                return HttpRefusal(401, "Unauthorized - Invalid or missing credentials", _CHALLENGE)
            session.admitted = False
            session.rights = 0
            return _welcome(session, headers, self._limits.authentication_timeout)
        locked = self._locked_out(session)
        if locked is not None:
            return locked
        user = self._remembered.find(credentials, self._directory)
        if user is not None:
            self._lockout.succeeded(session.origin, user.name)
            self._admit(session, user)
            return _welcome(session, headers)
        return _PasswordCheck(self, credentials, session, headers)

    def opened(self, session: Session) -> None:
        """A connection is open and will be found by `replace_directory`: what it missed before is made up for."""
        if session.user is not None:
            self._bring_up_to_date(session)

    def overdue(self, session: Session) -> tuple[int, str] | None:
        """Whether a client has not authenticated in time."""
        if session.admitted:
            return None
        self._audit.note("refused", address=session.address[0], reason="authentication timeout")
        return CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "authentication_timeout")

    # Logins. `verify` and `authenticate` run in the pool: they are slow on purpose.

    def standing(self, session: Session) -> int:
        """How the client's address has done with logins: those of a better one are checked first."""
        return self._lockout.standing(session.origin)

    def verify(self, credentials: Credentials, session: Session) -> User | None:
        """The user, where the credentials are right; notes the outcome."""
        directory = self._directory
        user = self._remembered.find(credentials, directory) or directory.check(*credentials)
        if user is None:
            self._failed(credentials, session)
        else:
            self._remembered.add(credentials, user)
            self._lockout.succeeded(session.origin, user.name)
        return user

    def welcome(self, credentials: Credentials, session: Session, headers: Headers) -> HttpRefusal | Welcome:
        """The decision on an upgrade whose password is to be checked."""
        refusal = self._locked_out(session)  # others of this address may have failed while this one waited
        if refusal is not None:
            return refusal
        user = self.verify(credentials, session)
        if user is not None:
            self._admit(session, user)
        if session.user is None or not session.admitted:
            return HttpRefusal(401, "Unauthorized - Invalid or missing credentials", _CHALLENGE)
        return _welcome(session, headers)

    def authenticate(self, context: CallContext, user: str, password: str) -> dict[str, str | None]:
        """Log in with user and password"""
        session = context.session
        if not self._config.has_users:
            return {"user": None, "role": "admin"}
        refusal = self._login_refusal(session)  # others of this address may have failed while this one waited
        if refusal is not None:
            raise refusal
        found = self.verify(Credentials(user, password), session)
        if found is not None:
            self._admit(session, found)
            return {"user": found.name, "role": found.role}
        session.failures += 1
        if session.failures >= self._limits.login_failures:
            self.close(
                session.connection_id, CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "login_failures")
            )
        raise RpcError(JsonRpcCode.NOT_AUTHENTICATED, "Wrong user or password", recovery_steps=_LOGIN_STEPS)

    def own_methods(self) -> dict[str, Method]:
        """Methods of the server itself."""
        method = Method("authenticate", self.authenticate, None, True, "Log in with user and password")
        method.is_login = True
        return {method.name: method}

    def replace_directory(self, directory: Directory, sessions: Callable[[], Iterable[Session]]) -> None:
        """Takes new users: changed roles count from the next call, who is gone is closed with 4401.

        Args:
            directory: the users from now on.
            sessions: returns the open ones; asked after the change, so that whoever opens later has met the new users.
        """
        self._directory = directory
        for session in sessions():
            if session.user is not None:
                self._bring_up_to_date(session)

    def _bring_up_to_date(self, session: Session) -> None:
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

    def _admit(self, session: Session, user: User) -> None:
        session.user = user.name
        session.rights = user.rights
        session.admitted = True
        self._audit.note("login", address=session.address[0], user=user.name, role=user.role)
        self._bring_up_to_date(session)  # the users may have changed while the password was checked

    def _locked_out(self, session: Session) -> HttpRefusal | None:
        wait = self._lockout.locked_for(session.origin)
        if not wait:
            return None
        self._audit.note("refused", address=session.address[0], reason="locked out")
        return HttpRefusal(429, _LOCKED_OUT, _retry_after(wait))

    def _failed(self, credentials: Credentials, session: Session) -> None:
        host = session.address[0]
        seconds = self._lockout.failed(session.origin, credentials.name)
        known = self._directory.get(credentials.name) is not None
        # A name that nobody has may be a password typed into the wrong field: it is not noted.
        self._audit.note("login failed", address=host, user=credentials.name if known else None)
        if seconds:
            self._audit.note("locked out", address=host, seconds=seconds)

    # Calls

    def refusal(self, session: Session, name: str, method: Method | None) -> RpcError | None:
        """Why a client may not make a call; None where it may. See `rpc.dispatcher.Guard`."""
        if method is not None and method.is_login:
            return self._login_refusal(session)
        if session.limited:
            refusal = self._call_refusal(session, name)
            if refusal is not None:
                return refusal
        if not session.admitted:
            return RpcError(
                JsonRpcCode.NOT_AUTHENTICATED, "Not authenticated: log in first", recovery_steps=_LOGIN_STEPS
            )
        if method is None:
            return None  # the dispatcher says so
        need = method.need
        if need < 0:
            need = method.need = find_need(method)
        if session.rights & need == need:
            return None
        self._audit.note("denied", address=session.address[0], user=session.user, method=method.name)
        return RpcError(
            JsonRpcCode.PERMISSION_DENIED,
            f"Permission denied: {method.name} needs {names_of(need)}",
            {"permission": names_of(need)},
            error_code="RPC-PERMISSION-DENIED",
            recovery_steps=_PERMISSION_STEPS,
        )

    def may_read(self, session: Session, topic: Topic) -> bool:
        """Whether a client may have a topic's events."""
        if topic.need < 0:
            topic.need = parse_need(topic.permission, f"topic {topic.name}")
        return session.admitted and session.rights & topic.need == topic.need

    def malformed(self, session: Session) -> RpcError | None:
        """Why a client may not even send what is no request; None where it may. See `rpc.dispatcher.Guard`."""
        if not session.limited:
            return None
        wait = self._throttle.take((session.user or session.origin, ""), self._call_rate)
        return self._strike(session, limit_reached(self._limits, "call_rate"), wait) if wait else None

    def heard(self, session: Session, size: int) -> None:
        """Charges bytes that came, whatever they are; who sends on far beyond the limit is closed."""
        if session.limited:
            level = self._throttle.charge(("bytes", session.origin), self._byte_rate, size)
            if level <= -self._byte_rate.capacity:
                text = limit_reached(self._limits, "byte_rate")
                self.close(session.connection_id, CloseCode.POLICY_VIOLATION, text)

    def message_refusal(self, session: Session) -> RpcError | None:
        """Why a client may not send a message now, be it data or a ping; None where it may."""
        if not session.limited:
            return None
        for kind, rate, cost in (("messages", self._message_rate, 1), ("bytes", self._byte_rate, 0)):
            wait = self._throttle.take((kind, session.origin), rate, cost)
            if wait:
                name = "message_rate" if kind == "messages" else "byte_rate"
                return self._strike(session, limit_reached(self._limits, name), wait)
        return None

    def _call_refusal(self, session: Session, name: str) -> RpcError | None:
        who = session.user or session.origin
        wait = self._throttle.take((who, ""), self._call_rate)
        if wait:
            return self._strike(session, limit_reached(self._limits, "call_rate"), wait)
        rates = self._method_rates
        rate = rates.get(name)
        key = name if rate is not None else DEFAULT_METHOD
        wait = self._throttle.take((who, key), rate or rates[DEFAULT_METHOD])
        if wait:
            return self._strike(session, f"rate of {name[:64]} (rpcwebsocketmethodrates)", wait)
        session.strikes = 0
        return None

    def _login_refusal(self, session: Session) -> RpcError | None:
        """Why a client may not try to log in now; None where it may."""
        wait = self._lockout.locked_for(session.origin) if self._config.has_users else 0.0
        if not wait:
            return None
        self._strike(session, limit_reached(self._limits, "login_failures"), wait)
        return _rate_limited(_LOCKED_OUT, wait)

    def _strike(self, session: Session, limit: str, wait: float) -> RpcError:
        """Counts a call that came too soon; who keeps on is closed."""
        session.strikes += 1
        if session.strikes == 1:
            self._audit.note("rate limited", address=session.address[0], user=session.user, limit=limit)
        if session.strikes == self._limits.rate_strikes:
            self.close(session.connection_id, CloseCode.POLICY_VIOLATION, limit_reached(self._limits, "rate_strikes"))
        return _rate_limited(f"Rate limit exceeded: {limit}. Please slow down your requests.", wait)

    def _is_limited(self, host: str) -> bool:
        return self._config.limit_loopback or not is_loopback(host)


def _welcome(session: Session, headers: Headers, seconds: float = math.inf) -> Welcome:
    return Welcome(session, headers, seconds, session.codec)


class _PasswordCheck:
    """A password that is to be checked before an upgrade goes on."""

    def __init__(self, keeper: Gatekeeper, credentials: Credentials, session: Session, headers: Headers) -> None:
        self._keeper = keeper
        self._credentials = credentials
        self.session = session
        self._headers = headers

    def run(self) -> HttpRefusal | Welcome:
        """Checks it; slow."""
        return self._keeper.welcome(self._credentials, self.session, self._headers)


def _rate_limited(text: str, wait: float) -> RpcError:
    return RpcError(
        JsonRpcCode.RATE_LIMITED,
        text,
        {"retry_after_ms": max(1, math.ceil(wait * 1000))},
        error_code="RPC-RATE-LIMIT",
        recovery_steps=_RATE_STEPS,
    )


def _retry_after(wait: float) -> Headers:
    return ((b"Retry-After", b"%d" % math.ceil(wait)),)
