"""Decide about every client of a server: whether it may connect, upgrade, send and call.

It joins the rules of `auth/` and records its decisions in the audit log. Each decision is a value: None if the client may
go on, otherwise a `Denial`.

Rights are checked when they are used, and not only when they are granted: for each call, also within a batch, by the
rights that the session has at that moment, and for events when a subscription is made and again whenever users change
(`EventHub.recheck_rights`). So a demotion counts from the next call on, and a removed user keeps neither a subscription
nor a call that was not begun.
"""

from __future__ import annotations

from ..auth.audit_log import AuditLog
from ..auth.authenticator import EXPIRED, Authenticator
from ..auth.denial import Denial, DenialKind
from ..auth.method_rates import DEFAULT_METHOD, method_rates
from ..auth.origin_policy import OriginPolicy
from ..auth.permissions import format_rights
from ..auth.rate_limiter import Rate, RateLimiter
from ..config.config import Config, parse_network
from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..protocol.http import HttpRefusal
from ..rpc.messages import count_values
from ..rpc.method import Method
from ..session import Session
from ..util.clock import Clock
from ..util.ip import is_loopback, network_of, parse_address
from .http_responses import refusal_for

__all__ = ["AccessControl"]


_VALUE_COST = 32

_SEARCHED_PER_PIECE = 4
"""Events that are searched in the time in which one frame is parsed."""


class AccessControl:
    """The rules of one server. Thread-safe.

    Args:
        config: what is allowed.
        authenticator: decides who a client is.
        clock: seconds that never go backwards.
        audit: records decisions.
    """

    def __init__(self, config: Config, authenticator: Authenticator, clock: Clock, audit: AuditLog) -> None:
        rates = config.limits.rates
        self.authenticator = authenticator
        self.requires_login = config.has_users
        self._limits = config.limits
        self._limit_loopback = config.limit_loopback
        self._audit = audit
        self._origins = OriginPolicy(config.addresses, config.allow_hosts, config.allow_origins)
        self._networks = [parse_network(text, "allow_ips (rpcallowip)") for text in config.allow_ips]
        self._limiter = RateLimiter(clock, rates.max_tracked_clients)
        self._method_rates = method_rates(config.method_rates)
        self._call_rate = Rate(rates.call_burst, rates.call_rate)
        self._message_rate = Rate(rates.message_burst, rates.message_rate)
        self._byte_rate = Rate(rates.byte_burst, rates.byte_rate)
        self._connection_rate = Rate(rates.connection_burst, rates.connection_rate)

    # Connections and requests

    def check_connection(self, host: str) -> HttpRefusal | None:
        """Return why an address may not connect now, or None if it may. See `ConnectionPolicy`."""
        denial = self.check_address(host) or self._check_connection_rate(host)
        return None if denial is None else refusal_for(denial)

    def check_address(self, host: str) -> Denial | None:
        """Decide whether an address may use the server at all (`rpcallowip`)."""
        if self._networks and not is_loopback(host):
            address = parse_address(host)
            if address is None or not any(address in network for network in self._networks):
                self._audit.record("refused", address=host, reason="rpcallowip")
                return Denial(kind=DenialKind.ADDRESS, message="this address may not connect (rpcallowip)")
        return None

    def _check_connection_rate(self, host: str) -> Denial | None:
        if not self._is_rate_limited(host):
            return None
        wait = self._limiter.take(("connections", network_of(host)), self._connection_rate)
        if not wait:
            return None
        self._audit.record("refused", address=host, reason="connection rate")
        text = f"too many connections: {limit_reached(self._limits, 'connection_rate')}"
        return Denial(kind=DenialKind.RATE, message=text, retry_after=wait)

    def check_origin(self, address: str, host: str, origin: str | None) -> Denial | None:
        """Decide on the headers Host and Origin of a request."""
        reason = self._origins.check(host, origin)
        if reason is None:
            return None
        self._audit.record("refused", address=address, reason=reason)
        return Denial(kind=DenialKind.ORIGIN, message=reason)

    def make_session(self, connection_id: int, address: tuple[str, int]) -> Session:
        """Return a session with the limits of its address."""
        session = Session(connection_id, address)
        session.is_rate_limited = self._is_rate_limited(address[0])
        session.rate_limit_key = network_of(address[0])
        return session

    def _is_rate_limited(self, host: str) -> bool:
        return self._limit_loopback or not is_loopback(host)

    def check_deadline(self, session: Session) -> CloseStatus | float:
        """Return how to close a client that has not authenticated in time, or the seconds until its token expires."""
        if session.is_authorized:
            return self.authenticator.check_expiry(session)
        self._audit.record("refused", address=session.address[0], reason="authentication timeout")
        return CloseStatus(CloseCode.NOT_AUTHENTICATED, limit_reached(self._limits, "authentication_timeout"))

    # Messages

    def charge_bytes(self, session: Session, size: int, pieces: int) -> None:
        """Charge a rate-limited client for received bytes: its address, and its user once it has logged in.

        A client that continues far beyond the limit is closed.

        Args:
            session: the client.
            size: bytes, inflated ones if that is more.
            pieces: frames or chunks of a body; each costs as much as some bytes, however small it is.
        """
        cost = size + pieces * self._limits.rates.piece_cost
        level = min(self._limiter.charge(("bytes", *client), self._byte_rate, cost) for client in _clients(session))
        if level <= -self._byte_rate.capacity:
            session.close_after = CloseStatus(CloseCode.POLICY_VIOLATION, limit_reached(self._limits, "byte_rate"))

    def charge_values(self, session: Session, message: bytes) -> None:
        """Charge a rate-limited client for the values of a large message: each costs as much as some bytes."""
        if session.is_rate_limited:
            self.charge_bytes(session, _VALUE_COST * count_values(message), 0)

    def charge_search(self, session: Session, events: int) -> None:
        """Charge a rate-limited client for events that are searched for what matches its filter, like frames."""
        if session.is_rate_limited and events:
            self.charge_bytes(session, 0, events // _SEARCHED_PER_PIECE)

    def check_request(self, session: Session) -> Denial | None:
        """Decide whether a client may make an HTTP request now, and charge for its head."""
        if session.is_rate_limited:
            self.charge_bytes(session, 0, 1)
        return self.check_message(session)

    def check_message(self, session: Session) -> Denial | None:
        """Decide whether a client may send a message now, be it data or a ping."""
        if not session.is_rate_limited:
            return None
        for client in _clients(session):
            wait = self._limiter.take(("messages", *client), self._message_rate)
            if wait:
                return self._reject_over_rate(session, limit_reached(self._limits, "message_rate"), wait)
            wait = self._limiter.take(("bytes", *client), self._byte_rate, 0)
            if wait:
                return self._reject_over_rate(session, limit_reached(self._limits, "byte_rate"), wait)
        return None

    # Calls; see `rpc.dispatcher.Guard`

    def check_call(self, session: Session, name: str, method: Method | None) -> Denial | None:
        """Decide whether a client may make a call."""
        if method is not None and method.is_login:
            return None
        if session.is_rate_limited:
            denial = self._check_call_rate(session, name)
            if denial is not None:
                return denial
        if not session.is_authorized:
            return Denial(kind=DenialKind.NOT_AUTHENTICATED, message="Not authenticated: log in first")
        if session.token is not None:
            denial = self._check_token(session, name)
            if denial is not None:
                return denial
        if method is None or session.has_rights(method.required_rights):
            return None
        permission = format_rights(method.required_rights)
        self._audit.record("denied", address=session.address[0], user=session.user, method=name[:64])
        text = f"Insufficient permissions for method '{name[:64]}' (needs {permission})"  # the node's words
        return Denial(kind=DenialKind.PERMISSION, message=text, permission=permission)

    def _check_token(self, session: Session, name: str) -> Denial | None:
        """Decide whether an API token has expired, or does not have a method in its list."""
        expiry = self.authenticator.check_expiry(session)
        if isinstance(expiry, CloseStatus):
            return Denial(
                kind=DenialKind.NOT_AUTHENTICATED, message=f"Not authenticated: {EXPIRED}", close_after=expiry
            )
        if session.may_call_by_name(name):
            return None
        self._audit.record("denied", address=session.address[0], user=session.user, method=name[:64])
        text = f"Insufficient permissions for method '{name[:64]}': it is not one of this token"
        return Denial(kind=DenialKind.PERMISSION, message=text)

    def check_malformed(self, session: Session) -> Denial | None:
        """Charge a message that is not a request like a call."""
        if not session.is_rate_limited:
            return None
        wait = self._limiter.take((session.user or session.rate_limit_key, ""), self._call_rate)
        return self._reject_over_rate(session, limit_reached(self._limits, "call_rate"), wait) if wait else None

    def check_right(self, session: Session, right: int, what: str) -> Denial | None:
        """Decide whether a client may have something that is not a call."""
        expiry = self.authenticator.check_expiry(session)
        if not isinstance(expiry, CloseStatus) and session.has_rights(right):
            return None
        self._audit.record("denied", address=session.address[0], user=session.user, method=what)
        permission = format_rights(right)
        text = f"Insufficient permissions for {what} (needs {permission})"
        return Denial(kind=DenialKind.PERMISSION, message=text, permission=permission)

    def check_route(self, session: Session, rate: str, rights: int, what: str) -> Denial | None:
        """Decide whether a client may use a route of the host now. It counts as a call of the method `rate`."""
        if session.is_rate_limited:
            denial = self._check_call_rate(session, rate)
            if denial is not None:
                return denial
        return self.check_right(session, rights, what)

    def may_send_raw(self, session: Session) -> bool:
        """Return whether a client's messages go to the host's handler: not those of a token with a list of methods."""
        token = session.token
        if token is None:
            return True
        return token.limits.methods is None and not isinstance(self.authenticator.check_expiry(session), CloseStatus)

    def may_call(self, session: Session, method: Method) -> bool:
        """Return whether a client has the rights that a method needs."""
        if method.is_login:
            return True
        return session.has_rights(method.required_rights) and session.may_call_by_name(method.name)

    def _check_call_rate(self, session: Session, name: str) -> Denial | None:
        client = session.user or session.rate_limit_key
        wait = self._limiter.take((client, ""), self._call_rate)
        if wait:
            return self._reject_over_rate(session, limit_reached(self._limits, "call_rate"), wait)
        rate = self._method_rates.get(name)
        key = name if rate is not None else DEFAULT_METHOD
        wait = self._limiter.take((client, key), rate or self._method_rates[DEFAULT_METHOD])
        if wait:
            return self._reject_over_rate(session, f"rate of {name[:64]} (rpcwebsocketmethodrates)", wait)
        session.consecutive_rejections = 0
        return None

    def _reject_over_rate(self, session: Session, limit: str, wait: float) -> Denial:
        """Count a rejection, and close a client that continues to call too often."""
        session.consecutive_rejections += 1
        if session.consecutive_rejections == 1:
            self._audit.record("rate limited", address=session.address[0], user=session.user, limit=limit)
        close_after = None
        if session.consecutive_rejections == self._limits.rates.max_rate_violations:
            close_after = CloseStatus(CloseCode.POLICY_VIOLATION, limit_reached(self._limits, "max_rate_violations"))
        text = f"Rate limit exceeded: {limit}. Please slow down your requests."
        return Denial(kind=DenialKind.RATE, message=text, retry_after=wait, close_after=close_after)


def _clients(session: Session) -> tuple[tuple[str, str], ...]:
    """Return what the messages of a client are charged to: its address, and its user, who may come from many of them."""
    address = ("address", session.rate_limit_key)
    return (address,) if session.user is None else (address, ("user", session.user))
