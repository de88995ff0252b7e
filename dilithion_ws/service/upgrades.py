"""Decide on upgrades: origin, subprotocol and credentials."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..auth.credentials import from_authorization, from_subprotocols
from ..auth.denial import Denial, NeedsPassword
from ..config.limits import Limits
from ..net.interfaces import Accepted, Address, Task
from ..protocol.handshake import UpgradeRequest
from ..protocol.http import Headers, HttpRefusal
from ..protocol.message_encoder import Codec
from ..rpc.msgpack import MessagePack
from ..rpc.table import RpcTable
from ..session import Session
from ..util.enums import Speed, TaskKind
from .access_control import AccessControl
from .http_responses import refusal_for
from .paths import is_endpoint, wallet_of

__all__ = ["SUBPROTOCOLS", "UpgradePolicy"]

SUBPROTOCOLS: Mapping[str, Codec | None] = {
    "dilithion.v1+msgpack": MessagePack(),
    "dilithion.v1+json": None,
    "dilithion.v1": None,
}
"""The server's own subprotocols, in the order of its preference."""

_RETRY = ((b"Retry-After", b"1"),)


class UpgradePolicy:
    """Decides which upgrades are accepted, and as whom.

    Args:
        access: decides on addresses and origins, and has the authenticator.
        limits: how long a client may take to log in.
        subprotocols: each with its encoding, preferred ones first.
        table: knows whether there are wallets.
    """

    def __init__(
        self, access: AccessControl, limits: Limits, subprotocols: Mapping[str, Codec | None], table: RpcTable
    ) -> None:
        self._access = access
        self._table = table
        self._authentication_timeout = limits.logins.authentication_timeout
        self._subprotocols = subprotocols

    def decide(
        self, connection_id: int, address: Address, request: UpgradeRequest, certificate: bytes = b""
    ) -> HttpRefusal | Accepted | Task[HttpRefusal | Accepted]:
        """Decide on an upgrade, or return the task that verifies its password first."""
        access = self._access
        denial = access.check_origin(address[0], request.header(b"host") or "", request.header(b"origin"))
        if denial is not None:
            return refusal_for(denial)
        path = request.target.partition("?")[0]
        if not is_endpoint(path, self._table):
            return HttpRefusal(404, f"there is no WebSocket at {path[:64]}; use /")
        session = access.make_session(connection_id, address)
        session.wallet = wallet_of(path, self._table)
        offers = request.offers()
        headers = self._select_subprotocol(session, offers)
        if not access.requires_login:
            return _accept(session, headers)
        authorization = request.header(b"authorization")
        if authorization is None and not any(".bearer." in offer for offer in offers):
            if certificate and access.authenticator.log_in_by_certificate(session, certificate):
                return _accept(session, headers, access.authenticator.expires_in(session))
            session.is_authorized = False
            session.rights = 0
            return _accept(session, headers, self._authentication_timeout)
        credentials = from_subprotocols(offers) if authorization is None else from_authorization(authorization)
        decision = access.authenticator.check_credentials(session, credentials)
        if isinstance(decision, Denial):
            return refusal_for(decision)
        if isinstance(decision, NeedsPassword):
            return _PasswordCheck(access, decision, session, headers)
        if session.token is None:
            return _accept(session, headers)
        return _accept(session, headers, access.authenticator.expires_in(session))

    def _select_subprotocol(self, session: Session, offers: list[str]) -> Headers:
        for name, codec in self._subprotocols.items():
            if name in offers:
                session.codec = codec
                session.has_host_codec = codec is not None and name not in SUBPROTOCOLS
                return ((b"Sec-WebSocket-Protocol", name.encode()),)
        return ()


def _accept(session: Session, headers: Headers, check_after: float = math.inf) -> Accepted:
    return Accepted(session, headers, check_after, session.codec)


class _PasswordCheck:
    """The task that verifies the password of an upgrade."""

    speed = Speed.SLOW
    is_serial = True
    kind = TaskKind.LOGIN
    hooks = None
    timeout = None

    def __init__(self, access: AccessControl, credentials: NeedsPassword, session: Session, headers: Headers) -> None:
        self._access = access
        self._credentials = credentials
        self.session = session
        self._headers = headers

    def run(self) -> HttpRefusal | Accepted:
        """Verify the password."""
        denial = self._access.authenticator.verify_credentials(self.session, self._credentials)
        if denial is not None:
            return refusal_for(denial)
        return _accept(self.session, self._headers, self._access.authenticator.expires_in(self.session))

    def refuse(self, reason: str) -> HttpRefusal:
        """Return the response if no worker can verify it."""
        return HttpRefusal(503, f"too many logins wait: {reason}", _RETRY)

    def expire(self) -> HttpRefusal:
        """Return the response after the deadline, which is that of the handshake."""
        return self.refuse("the time is over")

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""
