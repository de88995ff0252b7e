"""Answer ordinary HTTP requests: one after the other on each connection. For the leading thread.

Such a connection stays in the state HTTP. Its deadline is that of the next request, or of the answer to the present one.
A request that asks for a WebSocket is not handled here but returned to the caller.
"""

from __future__ import annotations

from ..protocol.http import HttpRefusal, HttpRequest, HttpResponse
from ..protocol.http_connection import HttpOutcome
from ..util.futures import Future
from ..util.thread_contracts import leader_only
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection import HTTP, SENT, Connection
from .interfaces import Task
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
    def on_request(self, connection: Connection, request: HttpRequest) -> None:
        """Answer a request now, or start the task that does."""
        reactor = self._reactor
        client = reactor.client_of(connection, request.header(b"x-forwarded-for"))
        if isinstance(client, HttpRefusal):
            self._closer.refuse(connection, client)
            return
        result = reactor.service.http(connection.id, client, request)
        if isinstance(result, HttpResponse):
            self._respond(connection, result)
            return
        connection.is_paused = True
        reactor.set_deadline(connection, reactor.limits.calls.call_timeout)
        reactor.update_interest(connection)
        self._submit(connection, result)

    def _submit(self, connection: Connection, task: Task[HttpResponse]) -> None:
        request = connection.pending_request = PendingRequest(connection, task, self._reactor.mailbox)
        full = self._scheduler.submit(request)
        if full is not None:
            self._respond(connection, request.refusal(full))

    @leader_only
    def on_done(
        self, request: PendingRequest, outcome: HttpResponse | Task[HttpResponse] | Future[HttpResponse]
    ) -> None:
        """Send the answer that a task has resulted in, or continue with what leads to it."""
        connection = request.connection
        if connection.state is not HTTP:
            return  # its deadline has passed
        if isinstance(outcome, HttpResponse):
            self._respond(connection, outcome)
        elif isinstance(outcome, Future):
            request.wait_for(outcome)
        else:
            self._submit(connection, outcome)

    def _respond(self, connection: Connection, response: HttpResponse) -> None:
        if connection.state is not HTTP or connection.http is None:
            return
        reactor = self._reactor
        data, ends = connection.http.encode_response(response, close=reactor.registry.is_stopping)
        connection.is_paused = False
        connection.pending_request = None
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
                # A pipelined request may have arrived already. Other connections go first, so not before the next turn.
                reactor.mailbox.post(lambda leader: leader.on_response_sent(connection))
            reactor.update_interest(connection)

    @leader_only
    def next_request(self, connection: Connection) -> HttpOutcome | None:
        """Return the next request on a connection whose response was sent, if it has arrived already."""
        if connection.state is not HTTP or connection.http is None or connection.is_paused:
            return None
        return connection.http.next_request()
