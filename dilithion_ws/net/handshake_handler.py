"""From the first bytes of HTTP to an open connection: the request, the decision on it, the answer. Leader only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..config.limits import limit_reached
from ..protocol.deflate import DeflateAgreement, accept_offers
from ..protocol.http import HttpRequest
from ..protocol.http_connection import HttpConnection, HttpRefusal, UpgradeRequest, accept_response
from ..protocol.message_encoder import MessageEncoder
from ..protocol.message_parser import Event, MessageParser
from .close_handshake import CloseHandshake
from .connection import Connection, ConnectionState
from .http_handler import HttpHandler
from .interfaces import Accepted, PendingAuthentication
from .reactor import Reactor
from .worker_pool import Job

__all__ = ["HandshakeHandler"]

logger = logging.getLogger("dilithion_ws.net")


class HandshakeHandler:
    """Opens connections, or refuses them, or answers what asks for no WebSocket.

    Args:
        hub: the connections.
        closing: how they end.
        submit_job: gives an HTTP request to the pool; False where its queue is full.
        submit_login: the same for the check of a password; also takes whose it is, and what to do where another takes its
            place.
        post: has the leader run something later.
        serve: takes the messages that came together with the request.
    """

    def __init__(
        self,
        hub: Reactor,
        closing: CloseHandshake,
        submit_job: Callable[[Job], bool],
        submit_login: Callable[[Connection, Any, Job, Job], bool],
        post: Callable[[Job], None],
        serve: Callable[[Connection, list[Event]], None],
    ) -> None:
        self._hub = hub
        self._closing = closing
        self._submit_login = submit_login
        self._post = post
        self._serve = serve
        limits = hub.limits
        self._header_too_big = limit_reached(limits, "header_size")
        self._message_too_big = limit_reached(limits, "message_size")
        self.web = HttpHandler(hub, closing, submit_job, submit_login, post, self._arrived)

    def receive(self, connection: Connection, data: bytes) -> None:
        """Bytes of a request."""
        limits, stage = self._hub.limits, connection.upgrade
        if stage is None:
            body = limits.messages.message_size if self._hub.http else -1
            stage = HttpConnection(limits.connections.header_size, self._header_too_big, body, self._message_too_big)
            connection.upgrade = stage
        outcome = stage.receive(data)
        if isinstance(outcome, HttpRequest):
            self.web.serve(connection, outcome)
        elif outcome is not None:
            self._arrived(connection, outcome)
        elif stage.wants_continue:
            with connection.lock:
                sent = connection.write(stage.go_on(), self._hub.clock)
            if not self._hub.after_send(connection, sent):
                self._closing.drop(connection)

    def _arrived(self, connection: Connection, outcome: UpgradeRequest | HttpRefusal) -> None:
        """A request for a WebSocket is there, or something that is no request."""
        if isinstance(outcome, HttpRefusal):
            self._closing.refuse(connection, outcome)
            return
        client: Any = self._hub.client_of(connection, outcome.header(b"x-forwarded-for"))
        if not isinstance(client, HttpRefusal) and client != connection.address:
            client = self._hub.readmit(connection, client)
        if isinstance(client, HttpRefusal):
            self._closing.refuse(connection, client)
            return
        decision = self._hub.service.upgrade(connection.id, connection.address, outcome)
        if isinstance(decision, (HttpRefusal, Accepted)):
            self._decided(connection, outcome, decision)
        else:
            self._verify(connection, outcome, decision)

    def _verify(self, connection: Connection, request: UpgradeRequest, verification: PendingAuthentication) -> None:
        """Has the pool decide; the connection is not read meanwhile, and its deadline goes on."""

        reason = f"too many logins wait; {limit_reached(self._hub.limits, 'login_queue')}"
        busy = HttpRefusal(503, reason, ((b"Retry-After", b"1"),))

        def decide() -> None:
            try:
                # No password is computed for nobody: who has gone would keep those who wait.
                gone = connection.state is not ConnectionState.HANDSHAKE or connection.peer_has_gone
                decision = busy if gone else verification.run()
            except Exception:  # a fault of ours; the client must have an answer
                logger.exception("verifying %r failed", connection)
                decision = HttpRefusal(503, "internal error")
            self._post(lambda: self._decided(connection, request, decision))

        connection.serial = True
        self._hub.arm(connection)

        def displaced() -> None:
            self._post(lambda: self._decided(connection, request, busy))

        if not self._submit_login(connection, verification.session, decide, displaced):
            self._closing.refuse(connection, busy)

    def _decided(self, connection: Connection, request: UpgradeRequest, decision: HttpRefusal | Accepted) -> None:
        """Opens the connection, or refuses it; nothing where its time was over before."""
        if connection.state is not ConnectionState.HANDSHAKE:
            return
        connection.serial = False
        if isinstance(decision, HttpRefusal):
            self._closing.refuse(connection, decision)
            return
        assert connection.upgrade is not None
        hub, limits = self._hub, self._hub.limits
        trailing = connection.upgrade.trailing
        connection.upgrade = None
        agreement = self._agree(request)
        deflation, window, headers = None, 0, decision.headers
        if agreement is not None:
            deflation, window = self._hub.deflation._replace(window=agreement.server_window), agreement.client_window
            headers = (*headers, (b"Sec-WebSocket-Extensions", agreement.answer.encode()))
        if decision.codec is not None or deflation is not None:
            connection.framing = MessageEncoder(decision.codec, deflation)
        connection.stream = MessageParser(limits.messages.message_size, self._message_too_big, window)
        connection.session = decision.session
        connection.metered = decision.metered
        with connection.lock:
            connection.become(ConnectionState.OPEN)
            sent = connection.write(accept_response(request, headers), hub.clock)
        connection.deadline = hub.now + decision.seconds
        connection.timer_at = 0.0  # the handshake's deadline is void
        hub.schedule(connection, min(hub.now + limits.connections.ping_interval, connection.deadline))
        hub.arm(connection)
        hub.service.opened(connection.session)
        if not hub.after_send(connection, sent):
            self._closing.drop(connection)
        elif trailing:
            self._serve(connection, connection.stream.receive(trailing))

    def _agree(self, request: UpgradeRequest) -> DeflateAgreement | None:
        """What is agreed on about deflating."""
        offers = request.header(b"sec-websocket-extensions") if self._hub.offers_deflate else None
        return None if offers is None else accept_offers(offers, self._hub.deflation.window)
