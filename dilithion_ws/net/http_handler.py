"""Ordinary HTTP on the port: one request of a connection after the other, each answered by the pool or at once.

Leader only, but for the work itself. A connection that speaks HTTP stays in the state HANDSHAKE: it has no messages, and
its deadline is that of the next request, or of the answer to this one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..config.limits import limit_reached
from ..protocol.http import HttpRequest, HttpResponse
from ..protocol.http_connection import HttpRefusal, UpgradeRequest
from .close_handshake import CloseHandshake
from .connection import Connection, ConnectionState, SendResult
from .interfaces import HttpFuture, HttpTask
from .reactor import Reactor
from .worker_pool import Job

__all__ = ["HttpHandler"]

logger = logging.getLogger("dilithion_ws.net")

_RETRY = ((b"Retry-After", b"1"),)
_ANSWER_SHARE = 2.0
"""Seconds beyond the call timeout after which a connection that waits for its answer is given up."""


class HttpHandler:
    """Answers HTTP requests.

    Args:
        hub: the connections.
        closing: how they end.
        submit: gives work to the pool; False where its queue is full.
        submit_login: the same for work that checks a password; also takes whose it is, and what to do where another takes
            its place.
        post: has the leader run something later.
        arrived: what to do with a request that asks for a WebSocket after all.
    """

    def __init__(
        self,
        hub: Reactor,
        closing: CloseHandshake,
        submit: Callable[[Job], bool],
        submit_login: Callable[[Connection, Any, Job, Job], bool],
        post: Callable[[Job], None],
        arrived: Callable[[Connection, UpgradeRequest | HttpRefusal], None],
    ) -> None:
        self._hub = hub
        self._closing = closing
        self._submit = submit
        self._submit_login = submit_login
        self._post = post
        self._arrived = arrived

    def serve(self, connection: Connection, request: HttpRequest) -> None:
        """Answers a request, now or when the pool has."""
        client = self._hub.client_of(connection, request.header(b"x-forwarded-for"))
        if isinstance(client, HttpRefusal):
            self._closing.refuse(connection, client)
            return
        result = self._hub.service.http(connection.id, client, request)
        if isinstance(result, HttpResponse):
            self._respond(connection, result)
        else:
            connection.serial = True
            connection.deadline = self._hub.now + self._hub.limits.calls.call_timeout + _ANSWER_SHARE
            connection.timer_at = 0.0
            self._hub.schedule(connection, connection.deadline)
            self._hub.arm(connection)
            self._give(connection, result)

    def _give(self, connection: Connection, work: HttpTask) -> None:
        def run() -> None:
            try:
                result = HttpResponse(503) if connection.peer_has_gone else work.run()
            except Exception:  # a fault of ours; the client must have an answer
                logger.exception("answering %r failed", connection)
                result = HttpResponse(500)
            self._post(lambda: self._worked(connection, result))

        limits, full = self._hub.limits, HttpResponse(503, headers=_RETRY)
        if work.session is None:
            taken = self._submit(run)
            name = "queue"
        else:
            taken = self._submit_login(
                connection, work.session, run, lambda: self._post(lambda: self._respond(connection, full))
            )
            name = "login_queue"
        if not taken:
            text = f"the queue is full; {limit_reached(limits, name)}\n".encode()
            self._respond(connection, HttpResponse(503, text, "text/plain; charset=utf-8", _RETRY))

    def _worked(self, connection: Connection, result: HttpResponse | HttpTask | HttpFuture) -> None:
        """The pool has an answer, or the next step towards one."""
        if connection.state is not ConnectionState.HANDSHAKE:
            return  # its time was over
        if isinstance(result, HttpResponse):
            self._respond(connection, result)
        elif hasattr(result, "deliver_to"):
            result.deliver_to(lambda response: self._post(lambda: self._worked(connection, response)))
        else:
            self._give(connection, result)

    def _respond(self, connection: Connection, response: HttpResponse) -> None:
        if connection.state is not ConnectionState.HANDSHAKE or connection.upgrade is None:
            return
        hub, stage = self._hub, connection.upgrade
        data, ends = stage.respond(response, close=hub.stopping)
        connection.serial = False
        with connection.lock:
            sent = connection.write(data, hub.clock)
        if not hub.after_send(connection, sent):
            self._closing.drop(connection)
        elif ends:
            self._closing.drain(connection)
        else:
            connection.deadline = hub.now + hub.limits.connections.handshake_timeout
            connection.timer_at = 0.0
            hub.schedule(connection, connection.deadline)
            if sent is SendResult.ALL:
                self._post(lambda: self.again(connection))  # a pipelined one may be there; others first
            hub.arm(connection)

    def again(self, connection: Connection) -> None:
        """Goes on to the next request, once the last answer has gone out."""
        if connection.state is not ConnectionState.HANDSHAKE or connection.upgrade is None or connection.serial:
            return
        outcome = connection.upgrade.again()
        if isinstance(outcome, HttpRequest):
            self.serve(connection, outcome)
        elif outcome is not None:
            self._arrived(connection, outcome)
