"""The application behind the transport: passes on what happens to clients, and answers their messages by JSON-RPC."""

from __future__ import annotations

import msgspec

from ..auth.denial import Denial
from ..errors import CloseStatus
from ..events.hub import EventHub
from ..net.interfaces import Accepted, Address, Admission, Reply, Task
from ..protocol.frames import BINARY, TEXT
from ..protocol.handshake import UpgradeRequest
from ..protocol.http import HttpHead, HttpRefusal, HttpRequest, HttpResponse
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.dispatcher import Dispatcher
from ..rpc.messages import NULL_ID, error_answer, extract_id, parse_error
from ..session import Session
from .access_control import AccessControl
from .callbacks import Callbacks
from .http_app import HttpApp
from .raw_messages import LargeMessage, MessageHandler, RawMessageCall
from .upgrades import UpgradePolicy

__all__ = ["RpcService", "ServiceParts"]


class ServiceParts(msgspec.Struct, frozen=True):
    """What a service passes things on to.

    Attributes:
        access: decides what clients may do.
        upgrades: decides who may connect.
        dispatcher: answers JSON-RPC messages.
        http: answers HTTP requests.
        events: the topics and subscriptions.
        callbacks: the host's callbacks.
        on_message: the host's handler of messages, or None.
    """

    access: AccessControl
    upgrades: UpgradePolicy
    dispatcher: Dispatcher
    http: HttpApp
    events: EventHub
    callbacks: Callbacks
    on_message: MessageHandler | None


class RpcService:
    """Implements `net.interfaces.Service`.

    Args:
        parts: what it passes things on to.
    """

    def __init__(self, parts: ServiceParts) -> None:
        self._access = parts.access
        self._upgrades = parts.upgrades
        self._dispatcher = parts.dispatcher
        self._http = parts.http
        self._events = parts.events
        self._callbacks = parts.callbacks
        self._on_message = parts.on_message
        self._inline_size = parts.dispatcher.executor.limits.messages.inline_message_size

    def check_connection(self, host: str) -> HttpRefusal | None:
        """Delegate to `AccessControl.check_connection`."""
        return self._access.check_connection(host)

    def upgrade(
        self, connection_id: int, address: Address, request: UpgradeRequest, certificate: bytes = b""
    ) -> HttpRefusal | Accepted | Task[HttpRefusal | Accepted]:
        """Delegate to `UpgradePolicy.decide`."""
        return self._upgrades.decide(connection_id, address, request, certificate)

    def admit(
        self, connection_id: int, address: Address, head: HttpHead, certificate: bytes = b""
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        """Delegate to `HttpApp.admit`."""
        return self._http.admit(connection_id, address, head, certificate)

    def http(self, admission: Admission, request: HttpRequest) -> HttpResponse | Task[HttpResponse]:
        """Delegate to `HttpApp.answer`."""
        return self._http.answer(admission, request)

    def login_priority(self, session: Session) -> int:
        """Delegate to `Authenticator.login_priority`."""
        return self._access.authenticator.login_priority(session)

    def on_open(self, session: Session) -> None:
        """Refresh the client's rights and call `on_connect`.

        From now on a reload finds the session; a reload since the upgrade did not, so its effect is made up for here.
        """
        self._access.authenticator.refresh_rights(session)
        self._callbacks.connected(session)

    def on_closed(self, session: Session, status: CloseStatus) -> None:
        """End the client's subscriptions and call `on_disconnect`."""
        self._events.on_closed(session.connection_id)
        self._callbacks.disconnected(session, status)

    def on_writable(self, session: Session) -> None:
        """Resume the delivery of events."""
        self._events.on_writable(session.connection_id)

    def on_received(self, session: Session, size: int, frames: int) -> None:
        """Delegate to `AccessControl.charge_bytes`."""
        self._access.charge_bytes(session, size, frames)

    def on_deadline(self, session: Session) -> CloseStatus | float:
        """Delegate to `AccessControl.check_deadline`."""
        return self._access.check_deadline(session)

    def may_ping(self, session: Session) -> bool:
        """Charge a ping like a message."""
        if not session.is_rate_limited:
            return True
        denial = self._access.check_message(session)
        if denial is not None:
            _demand_close(session, denial)
        return denial is None

    def receive(self, session: Session, opcode: int, payload: bytes) -> Reply | Task[Reply] | None:
        """Pass a message to the host's handler, if there is one, and otherwise to JSON-RPC."""
        denial = None
        if session.is_rate_limited:
            denial = self._access.check_message(session)
        if self._on_message is not None and session.is_authorized and self._access.may_send_raw(session):
            if denial is not None and session.has_host_codec:
                return LargeMessage(self, self._dispatcher.executor, session, opcode, payload, denial)
            if denial is not None:
                _demand_close(session, denial)
                return error_answer(extract_id(payload) if opcode == TEXT else NULL_ID, denial.to_rpc_error())
            session.consecutive_rejections = 0
            return RawMessageCall(self._on_message, self, session, opcode, payload)
        if len(payload) > self._inline_size:
            return LargeMessage(self, self._dispatcher.executor, session, opcode, payload, denial)
        if opcode == TEXT and session.codec is None:
            return self._dispatcher.receive(payload, session, denial)
        if session.has_host_codec:
            return LargeMessage(self, self._dispatcher.executor, session, opcode, payload, denial)
        return self.receive_rpc(session, opcode, payload, denial)

    def receive_rpc(
        self, session: Session, opcode: int, payload: bytes, denial: Denial | None = None
    ) -> bytes | SingleCall | BatchCall | None:
        """Answer a JSON-RPC message in a text or binary frame, in the client's encoding."""
        codec = session.codec
        if codec is not None and (opcode == BINARY or not codec.binary):
            try:
                payload = codec.decode(payload)
            except Exception as error:  # a host's codec may raise anything
                return self._malformed(session, str(error), denial)
        elif opcode == BINARY and not payload.isascii():  # the parser has checked text frames only
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                return self._malformed(session, str(error), denial)
        refusal = None
        if len(payload) > self._inline_size:
            self._access.charge_values(session, payload)
            refusal = self._dispatcher.refuse_large(payload, session, denial)
        return refusal or self._dispatcher.receive(payload, session, denial)

    def _malformed(self, session: Session, text: str, denial: Denial | None) -> bytes:
        if denial is None:
            return error_answer(NULL_ID, parse_error(text))
        _demand_close(session, denial)
        return error_answer(NULL_ID, denial.to_rpc_error())


def _demand_close(session: Session, denial: Denial) -> None:
    """Record whether a denial closes the connection."""
    if denial.close_after is not None:
        session.close_after = denial.close_after
