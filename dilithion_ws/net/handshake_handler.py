"""The HTTP stage of a connection, up to the upgrade to a WebSocket. For the leading thread."""

from __future__ import annotations

from typing import Any

from ..config.limits import limit_reached
from ..protocol.deflate import DeflateAgreement, accept_offers
from ..protocol.handshake import UpgradeRequest, accept_response
from ..protocol.http import HttpHead, HttpRefusal, HttpRequest
from ..protocol.http_connection import HttpConnection, HttpLimits, HttpOutcome
from ..protocol.message_encoder import MessageEncoder
from ..protocol.message_parser import MessageParser
from ..protocol.upgrade_fast_path import parse_usual_upgrade
from ..util.thread_contracts import leader_only
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection import HTTP, OPEN, Connection
from .http_handler import HttpHandler
from .interfaces import Accepted, Task
from .pending_request import PendingRequest
from .reactor import Reactor

__all__ = ["HandshakeHandler"]


class HandshakeHandler:
    """Opens connections, refuses them, or answers requests that do not ask for a WebSocket.

    Args:
        reactor: the connections.
        closer: ends them.
        scheduler: hands the verification of passwords to the pool.
        http: answers ordinary requests.
    """

    def __init__(self, reactor: Reactor, closer: CloseHandshake, scheduler: CallScheduler, http: HttpHandler) -> None:
        self._reactor = reactor
        self._closer = closer
        self._scheduler = scheduler
        self._http = http
        config, limits = reactor.config, reactor.limits
        self._message_too_big = limit_reached(limits, "message_size")
        self._not_admitted = limit_reached(limits, "unauthenticated_message_size")
        self._http_limits = HttpLimits(
            limits.connections.header_size,
            limit_reached(limits, "header_size"),
            limits.messages.message_size if config.http else -1,
            self._message_too_big,
            int(limits.connections.keep_alive_timeout),
            max(1, limits.connections.frames_per_turn // 8),  # h11 takes about as long for a chunk as for eight frames
            limits.connections.header_fields,
            limit_reached(limits, "header_fields"),
        )

    @leader_only
    def receive(self, connection: Connection, data: bytes) -> None:
        """Parse received bytes of a request. If the connection is open afterwards, events may be deferred."""
        http = connection.http
        if http is None:
            usual = parse_usual_upgrade(data, self._http_limits.head, self._http_limits.max_fields)
            if usual is not None:
                self._on_upgrade(connection, usual)
                return
            http = connection.http = HttpConnection(self._http_limits)
        was_idle = http.is_idle
        outcome = http.receive(data)
        if was_idle and not http.is_idle:  # the first bytes of the next request
            self._reactor.set_deadline(connection, self._reactor.limits.connections.handshake_timeout)
        if http.has_more:
            self._reactor.read_again(connection)
        if connection.admission is not None:
            self._http.on_body(connection, len(data))
        if outcome is not None and connection.state is HTTP:
            self._on_outcome(connection, outcome)

    @leader_only
    def on_written(self, connection: Connection) -> None:
        """Continue with the next request after a response was sent."""
        self._http.start_next_request(connection)

    @leader_only
    def on_request_done(self, request: PendingRequest, outcome: Any) -> None:
        """Continue with what a task in the pool has resulted in."""
        if request.upgrade is None:
            self._http.on_done(request, outcome)
        elif request.connection.state is HTTP:  # otherwise its deadline has passed
            self._complete(request.connection, request.upgrade, outcome)

    def _on_outcome(self, connection: Connection, outcome: HttpOutcome) -> None:
        if isinstance(outcome, HttpRequest):
            self._http.on_request(connection, outcome)
        elif isinstance(outcome, HttpHead):
            self._http.on_head(connection, outcome)
        elif isinstance(outcome, HttpRefusal):
            self._closer.refuse(connection, outcome)
        else:
            self._on_upgrade(connection, outcome)

    def _on_upgrade(self, connection: Connection, request: UpgradeRequest) -> None:
        reactor = self._reactor
        client = reactor.client_of(connection, request.header(b"x-forwarded-for"))
        if isinstance(client, HttpRefusal):
            self._closer.refuse(connection, client)
            return
        refusal = None if client == connection.address else reactor.reassign_address(connection, client)
        if refusal is not None:
            self._closer.refuse(connection, refusal)
            return
        decision = reactor.service.upgrade(connection.id, connection.address, request, connection.certificate)
        if isinstance(decision, (HttpRefusal, Accepted)):
            self._complete(connection, request, decision)
        else:
            self._verify(connection, request, decision)

    def _verify(self, connection: Connection, request: UpgradeRequest, task: Task[HttpRefusal | Accepted]) -> None:
        """Decide in the pool. The connection is not read meanwhile. Its deadline still runs."""
        pending = PendingRequest(connection, task, self._reactor.mailbox, self._scheduler, request)
        connection.is_paused = True
        self._reactor.update_interest(connection)
        full = self._scheduler.submit(pending)
        if full is not None:
            self._closer.refuse(connection, pending.refusal(full))

    def _complete(self, connection: Connection, request: UpgradeRequest, decision: HttpRefusal | Accepted) -> None:
        """Open the connection, or refuse it. Frames that came with the request become deferred events."""
        connection.is_paused = False
        if isinstance(decision, HttpRefusal):
            self._closer.refuse(connection, decision)
            return
        reactor, limits = self._reactor, self._reactor.limits
        trailing = request.trailing
        connection.http = None
        agreement = self._negotiate_deflate(request)
        deflater, window, headers = None, 0, decision.headers
        if agreement is not None:
            deflater = reactor.deflater._replace(window=agreement.server_window)
            window = agreement.client_window
            headers = (*headers, (b"Sec-WebSocket-Extensions", agreement.answer.encode()))
        if decision.codec is not None or deflater is not None:
            connection.encoder = MessageEncoder(decision.codec, deflater, decision.session.has_host_codec)
        if decision.session.is_authorized:
            reactor.admit(connection)
            size, most = limits.messages.message_size, limits.connections.frames_per_turn
            connection.parser = MessageParser(size, self._message_too_big, window, most)
        else:
            connection.parser = self._make_parser(window)
        connection.session = decision.session
        reactor.registry.on_open(connection)  # before its client can know that it is open
        with connection.lock:
            connection.transition(OPEN)
            connection.broadcasts = reactor.registry.broadcasts
            connection.broadcast_at = connection.broadcasts.head
            result = connection.write(accept_response(request, headers))
        connection.deadline = reactor.now + decision.check_after
        connection.timer_at = 0.0  # the deadline of the handshake is obsolete
        reactor.schedule(connection, min(reactor.now + limits.connections.ping_interval, connection.deadline))
        reactor.update_interest(connection)
        reactor.service.on_open(decision.session)
        if not reactor.after_send(connection, result):
            self._closer.abort(connection)
        elif trailing:
            connection.deferred_events = connection.parser.receive(trailing) or None
            if connection.parser.has_more:
                reactor.read_again(connection)

    def _make_parser(self, window: int) -> MessageParser:
        """Return a parser for a client that has yet to log in; `Reactor.admit` lifts its limits."""
        size = self._reactor.limits.logins.unauthenticated_message_size
        return MessageParser(size, self._not_admitted, window, 1, "log in first: until then a message has one frame")

    def _negotiate_deflate(self, request: UpgradeRequest) -> DeflateAgreement | None:
        if not self._reactor.config.deflate:
            return None
        offers = request.header(b"sec-websocket-extensions")
        return None if offers is None else accept_offers(offers, self._reactor.deflater.window)
