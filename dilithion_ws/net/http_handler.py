"""Answer ordinary HTTP requests: one after the other on each connection. For the leading thread.

The service decides at the head of a request: it answers at once, or has the body received. So nothing is kept for a
client that may not send it, and a client with `Expect: 100-continue` does not even send it.

Such a connection stays in the state HTTP. Its deadline is that of the next request, or of the answer to the present one.
A request that asks for a WebSocket is not handled here but returned to the caller.
"""

from __future__ import annotations

from typing import Any

from ..protocol.http import HttpHead, HttpRefusal, HttpRequest, HttpResponse
from ..util.futures import Future
from ..util.http_date import http_date
from ..util.thread_contracts import leader_only
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection import HTTP, SENT, Connection
from .interfaces import Admission, Task
from .pending_request import PendingRequest
from .reactor import Reactor

__all__ = ["HttpHandler"]


class HttpHandler:
    """Answers requests.

    Args:
        reactor: the connections.
        closer: ends them.
        scheduler: hands tasks to the pool.
    """

    def __init__(self, reactor: Reactor, closer: CloseHandshake, scheduler: CallScheduler) -> None:
        self._reactor = reactor
        self._closer = closer
        self._scheduler = scheduler

    @leader_only
    def on_head(self, connection: Connection, head: HttpHead) -> None:
        """Answer a request at its head, have its body received, or start the task that decides."""
        reactor = self._reactor
        client = reactor.client_of(connection, head.header(b"x-forwarded-for"))
        if isinstance(client, HttpRefusal):
            self._closer.refuse(connection, client)
        else:
            self._continue(connection, reactor.service.admit(connection.id, client, head, connection.certificate))

    @leader_only
    def on_request(self, connection: Connection, request: HttpRequest) -> None:
        """Answer a whole request now, or start the task that does."""
        admission, connection.admission = connection.admission, None
        assert admission is not None
        self._continue(connection, self._reactor.service.http(admission, request))

    @leader_only
    def on_body(self, connection: Connection, size: int) -> None:
        """Charge for a part of a body, and give the client time for the next one in proportion."""
        reactor, admission = self._reactor, connection.admission
        assert admission is not None
        limits = reactor.limits.connections
        connection.deadline = min(reactor.now + limits.handshake_timeout, connection.deadline + size / limits.body_rate)
        self._charge(connection, admission)

    def _charge(self, connection: Connection, admission: Admission) -> None:
        """Charge a rate-limited client for what was looked at of a body."""
        http, session = connection.http, admission.session
        assert http is not None
        size, chunks, http.body_bytes, http.chunks = http.body_bytes, http.chunks, 0, 0
        if session.is_rate_limited:
            self._reactor.service.on_received(session, size, chunks)
            if session.close_after is not None:
                self._closer.refuse(connection, HttpRefusal(429, session.close_after.reason))

    def _continue(self, connection: Connection, decision: HttpResponse | Admission | Task[Any]) -> None:
        if isinstance(decision, HttpResponse):
            self._respond(connection, decision)
        elif isinstance(decision, Admission):
            self._receive_body(connection, decision)
        else:
            connection.is_paused = True
            self._reactor.update_interest(connection)
            self._submit(connection, decision)

    def _receive_body(self, connection: Connection, admission: Admission) -> None:
        reactor, http = self._reactor, connection.http
        assert http is not None
        connection.admission = admission
        connection.pending_request = None
        reactor.admit(connection)
        outcome = http.accept_body()
        self._charge(connection, admission)
        if connection.state is not HTTP:
            return
        if isinstance(outcome, HttpRequest):
            self.on_request(connection, outcome)
            return
        if isinstance(outcome, HttpRefusal):
            self._closer.refuse(connection, outcome)
            return
        connection.is_paused = False
        reactor.set_deadline(connection, reactor.limits.connections.handshake_timeout)
        if http.has_more:
            reactor.read_again(connection)
        if http.expects_continue:
            with connection.lock:
                result = connection.write(http.encode_continue())
            if not reactor.after_send(connection, result):
                self._closer.abort(connection)
                return
        reactor.update_interest(connection)

    def _submit(self, connection: Connection, task: Task[Any]) -> None:
        timeout = self._reactor.limits.calls.call_timeout if task.timeout is None else task.timeout
        self._reactor.set_deadline(connection, timeout)
        request = connection.pending_request = PendingRequest(connection, task, self._reactor.mailbox, self._scheduler)
        full = self._scheduler.submit(request)
        if full is not None:
            self._respond(connection, request.refusal(full))

    @leader_only
    def on_done(
        self, request: PendingRequest, outcome: HttpResponse | Admission | Task[Any] | Future[HttpResponse]
    ) -> None:
        """Continue with what a task has resulted in: the answer, or what leads to it."""
        connection = request.connection
        if connection.state is not HTTP:
            return  # its deadline has passed
        if isinstance(outcome, Future):
            request.wait_for(outcome)
        elif isinstance(outcome, (HttpResponse, Admission)):
            self._continue(connection, outcome)
        else:
            self._submit(connection, outcome)

    def _respond(self, connection: Connection, response: HttpResponse) -> None:
        if connection.state is not HTTP or connection.http is None:
            return
        reactor = self._reactor
        data, ends = connection.http.encode_response(response, http_date(), close=reactor.registry.is_stopping)
        connection.is_paused = False
        connection.pending_request = None
        connection.admission = None
        # Set before the response is written, since a write that stalls has a deadline of its own.
        reactor.set_deadline(connection, reactor.limits.connections.keep_alive_timeout)
        with connection.lock:
            result = connection.write(data)
        if not reactor.after_send(connection, result):
            self._closer.abort(connection)
        elif ends:
            self._closer.drain(connection)
        else:
            if result is SENT:
                self.start_next_request(connection)
            reactor.update_interest(connection)

    @leader_only
    def start_next_request(self, connection: Connection) -> None:
        """Go on after a response was sent. If the next request has arrived already, other connections go first."""
        http = connection.http
        if connection.state is not HTTP or http is None or connection.is_paused or connection.admission is not None:
            return  # what was sent was not a response, but a request to go on with the body
        http.start_next_request()
        if http.has_more:
            self._reactor.set_deadline(connection, self._reactor.limits.connections.handshake_timeout)
            self._reactor.read_again(connection)
