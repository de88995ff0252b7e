"""Decides about every client of one server: who comes in, who it is, what it may call and how often.

It holds together the rules of `access/`, and puts what it decides into the audit log. Who a client is, is the part of
`logins.py`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping

from ..auth.audit_log import AuditLog
from ..auth.credentials import Credentials, from_basic, from_subprotocols
from ..auth.method_rates import DEFAULT_METHOD, method_rates
from ..auth.origin_policy import OriginPolicy
from ..auth.permissions import names_of
from ..auth.rate_limiter import Rate, RateLimiter
from ..auth.users import UserDirectory
from ..config.config import Config, parse_network
from ..config.limits import limit_reached
from ..errors import CloseCode, JsonRpcCode, RpcError
from ..events.topic import Topic
from ..needs import find_need, parse_need
from ..net.interfaces import Accepted, PendingAuthentication
from ..protocol.http import Headers
from ..protocol.http_connection import HttpRefusal, UpgradeRequest
from ..protocol.message_encoder import Codec
from ..rpc.context import Session
from ..rpc.method import Method
from ..rpc.msgpack import MessagePack
from ..util.clock import Clock
from ..util.ip import is_loopback, network_of, parse_address
from .authenticator import Authenticator
from .refusals import LOGIN_STEPS, rate_limited, retry_after

__all__ = ["SUBPROTOCOLS", "AccessControl"]

logger = logging.getLogger("dilithion_ws")

SUBPROTOCOLS: Mapping[str, Codec | None] = {
    "dilithion.v1+msgpack": MessagePack(),
    "dilithion.v1+json": None,
    "dilithion.v1": None,
}
"""Those of the server itself, in the order of its preference."""

_PERMISSION_STEPS = ("Ask the operator for a role with this permission", "Use another user")


class AccessControl:
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
        directory: UserDirectory,
        clock: Clock,
        audit: AuditLog,
        subprotocols: Mapping[str, Codec | None] | None = None,
    ) -> None:
        limits = config.limits
        self._subprotocols = SUBPROTOCOLS if subprotocols is None else subprotocols
        self._config = config
        self._limits = limits
        self._audit = audit
        self._origins = OriginPolicy(config.host, config.allow_hosts, config.allow_origins)
        self._networks = [parse_network(text, "allow_ips (rpcallowip)") for text in config.allow_ips]
        self.logins = Authenticator(config, directory, clock, audit, self.strike)
        self._throttle = RateLimiter(clock, limits.rates.tracked_clients)
        self._method_rates = method_rates(config.method_rates)
        self._call_rate = Rate(limits.rates.call_burst, limits.rates.call_rate)
        self._message_rate = Rate(limits.rates.message_burst, limits.rates.message_rate)
        self._byte_rate = Rate(limits.rates.byte_burst, limits.rates.byte_rate)
        self._connection_rate = Rate(limits.rates.connection_burst, limits.rates.connection_rate)
        self.close: Callable[[int, int, str], None] = lambda connection_id, code, reason: None

    # Connections

    def connection_refusal(self, host: str) -> HttpRefusal | None:
        """Why an address may not connect; None where it may. Called for each connection."""
        return self.address_refusal(host) or self._rate_refusal(host)

    def address_refusal(self, host: str) -> HttpRefusal | None:
        """Why an address may not even ask; None where it may."""
        if self._networks and not is_loopback(host):
            address = parse_address(host)
            if address is None or not any(address in network for network in self._networks):
                self._audit.note("refused", address=host, reason="rpcallowip")
                return HttpRefusal(403, "this address may not connect (rpcallowip)")
        return None

    def _rate_refusal(self, host: str) -> HttpRefusal | None:
        if self._is_limited(host):
            wait = self._throttle.take(("connections", network_of(host)), self._connection_rate)
            if wait:
                self._audit.note("refused", address=host, reason="connection rate")
                text = f"too many connections: {limit_reached(self._limits, 'connection_rate')}"
                return HttpRefusal(429, text, retry_after(wait))
        return None

    def upgrade(
        self, connection_id: int, address: tuple[str, int], request: UpgradeRequest
    ) -> HttpRefusal | Accepted | PendingAuthentication:
        """Decides on an upgrade, or says that a password has to be checked for it."""
        host = address[0]
        refusal = self.page_refusal(host, request.header(b"host") or "", request.header(b"origin"))
        if refusal is not None:
            return HttpRefusal(403, refusal)
        session = Session(connection_id, address)
        self.prepare(session)
        offers = request.offers()
        headers: Headers = ()
        for name, codec in self._subprotocols.items():
            if name in offers:
                headers = ((b"Sec-WebSocket-Protocol", name.encode()),)
                session.codec = codec
                break
        authorization = request.header(b"authorization")
        credentials = from_subprotocols(offers) if authorization is None else from_basic(authorization)
        tried = authorization is not None or any(".bearer." in offer for offer in offers)
        if self.wants_users and not tried:
            session.admitted = False
            session.rights = 0
            return _welcome(session, headers, self._limits.logins.authentication_timeout)
        outcome = self.logins.begin(session, credentials) if self.wants_users else None
        if outcome is None:
            return _welcome(session, headers)
        if isinstance(outcome, HttpRefusal):
            return outcome
        return _PasswordCheck(self.logins, outcome, session, headers)

    def page_refusal(self, address: str, host: str, origin: str | None) -> str | None:
        """Why a request with these headers may not be answered; None where it may."""
        refusal = self._origins.refusal(host, origin)
        if refusal is not None:
            self._audit.note("refused", address=address, reason=refusal)
        return refusal

    def prepare(self, session: Session) -> None:
        """Gives a new session the limits of its address."""
        session.limited = self._is_limited(session.address[0])
        session.origin = network_of(session.address[0])

    @property
    def serves_page(self) -> bool:
        """Whether `GET /` is the page for browsers."""
        return self._config.page

    @property
    def wants_users(self) -> bool:
        """Whether clients must authenticate."""
        return self._config.has_users

    def opened(self, session: Session) -> None:
        """A connection is open and will be found by `replace_directory`: what it missed before is made up for."""
        if session.user is not None:
            self.logins.bring_up_to_date(session)

    def overdue(self, session: Session) -> tuple[int, str] | None:
        """Whether a client has not authenticated in time."""
        if session.admitted:
            return None
        self._audit.note("refused", address=session.address[0], reason="authentication timeout")
        return CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "authentication_timeout")

    # Calls

    def refusal(self, session: Session, name: str, method: Method | None) -> RpcError | None:
        """Why a client may not make a call; None where it may. See `rpc.dispatcher.Guard`."""
        if method is not None and method.is_login:
            return self.logins.refusal(session)
        if session.limited:
            refusal = self._call_refusal(session, name)
            if refusal is not None:
                return refusal
        if not session.admitted:
            return RpcError(
                JsonRpcCode.NOT_AUTHENTICATED, "Not authenticated: log in first", recovery_steps=LOGIN_STEPS
            )
        if method is None:
            return None  # the dispatcher says so
        need = method.need
        if need < 0:
            need = method.need = find_need(method)
        if session.rights & need == need:
            return None
        self._audit.note("denied", address=session.address[0], user=session.user, method=name[:64])
        return RpcError(
            JsonRpcCode.PERMISSION_DENIED,
            f"Permission denied: {name[:64]} needs {names_of(need)}",
            {"permission": names_of(need)},
            error_code="RPC-PERMISSION-DENIED",
            recovery_steps=_PERMISSION_STEPS,
        )

    def may_call(self, session: Session, method: Method) -> bool:
        """Whether a client has the rights that a method needs."""
        need = method.need if method.need >= 0 else find_need(method)
        return method.is_login or (session.admitted and session.rights & need == need)

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
        return self.strike(session, limit_reached(self._limits, "call_rate"), wait) if wait else None

    def heard(self, session: Session, size: int) -> None:
        """Charges a limited client for bytes, whatever they are; who sends on far beyond the limit is closed."""
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
                return self.strike(session, limit_reached(self._limits, name), wait)
        return None

    def _call_refusal(self, session: Session, name: str) -> RpcError | None:
        who = session.user or session.origin
        wait = self._throttle.take((who, ""), self._call_rate)
        if wait:
            return self.strike(session, limit_reached(self._limits, "call_rate"), wait)
        rates = self._method_rates
        rate = rates.get(name)
        key = name if rate is not None else DEFAULT_METHOD
        wait = self._throttle.take((who, key), rate or rates[DEFAULT_METHOD])
        if wait:
            return self.strike(session, f"rate of {name[:64]} (rpcwebsocketmethodrates)", wait)
        session.strikes = 0
        return None

    def strike(self, session: Session, limit: str, wait: float) -> RpcError:
        """Counts a call that came too soon; who keeps on is closed."""
        session.strikes += 1
        if session.strikes == 1:
            self._audit.note("rate limited", address=session.address[0], user=session.user, limit=limit)
        if session.strikes == self._limits.rates.rate_strikes:
            self.close(session.connection_id, CloseCode.POLICY_VIOLATION, limit_reached(self._limits, "rate_strikes"))
        return rate_limited(f"Rate limit exceeded: {limit}. Please slow down your requests.", wait)

    def _is_limited(self, host: str) -> bool:
        return self._config.limit_loopback or not is_loopback(host)


def _welcome(session: Session, headers: Headers, seconds: float = math.inf) -> Accepted:
    return Accepted(session, headers, seconds, session.codec, session.limited)


class _PasswordCheck:
    """A password that is to be checked before an upgrade goes on."""

    def __init__(self, logins: Authenticator, credentials: Credentials, session: Session, headers: Headers) -> None:
        self._logins = logins
        self._credentials = credentials
        self.session = session
        self._headers = headers

    def run(self) -> HttpRefusal | Accepted:
        """Checks it; slow."""
        return self._logins.check(self._credentials, self.session) or _welcome(self.session, self._headers)
