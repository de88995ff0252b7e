"""Answer one request by a route of the host."""

from __future__ import annotations

import logging
import secrets

from ..net.interfaces import Task
from ..protocol.http import HttpHead, HttpRequest, HttpResponse
from ..session import Session
from ..util.enums import TaskKind
from .access_control import AccessControl
from .http_responses import ResponseWriter
from .http_routes import HttpCall, HttpReply, HttpRoute
from .http_tasks import RouteTask

__all__ = ["HostRoute"]

logger = logging.getLogger("dilithion_ws")


class HostRoute:
    """The way from an admitted request to the host's handler.

    Args:
        route: of the request.
        access: decides whether the client may use it now.
        head: the request without its body.
    """

    def __init__(self, route: HttpRoute, access: AccessControl, head: HttpHead) -> None:
        self._route = route
        self._access = access
        self._path, _, self._query = head.target.partition("?")

    def __call__(
        self, request: HttpRequest, session: Session, writer: ResponseWriter
    ) -> HttpResponse | Task[HttpResponse]:
        """Return the response, or the task that makes it."""
        denial = self._access.check_route(
            session, self._route.rate or self._route.prefix, self._route.rights, self._path
        )
        if denial is not None:
            return writer.denied(denial)
        method = "GET" if request.method == "HEAD" else request.method
        content_type = request.header(b"content-type") or ""
        call = HttpCall(method, self._path, self._query, request.body, content_type, session)
        task = RouteTask(session, writer, lambda: self._answer(call, writer))
        task.kind, task.timeout = TaskKind.CALL, self._route.timeout
        return task

    def _answer(self, call: HttpCall, writer: ResponseWriter) -> HttpResponse:
        try:
            reply = self._route.handler(call)
            if not isinstance(reply, HttpReply):
                raise TypeError(
                    f"the handler of {self._route.prefix} returned {type(reply).__name__}, not an HttpReply"
                )
        except BaseException as error:  # a worker must survive every handler
            incident = secrets.token_hex(4)
            logger.error("incident %s: the route %s failed", incident, self._route.prefix, exc_info=error)
            return writer.error(500, f"internal error; the server's log has it as incident {incident}")
        headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers.items())
        return writer.response(reply.status, reply.body, reply.content_type, headers)
