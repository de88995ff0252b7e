"""The tasks that answer HTTP requests in the pool."""

from __future__ import annotations

from collections.abc import Callable

from ..auth.denial import NeedsPassword
from ..net.interfaces import Admission, Task
from ..protocol.http import HttpResponse
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.messages import NULL_ID
from ..session import Session
from ..util.enums import Speed, TaskKind
from ..util.futures import Future, convert_future
from .access_control import AccessControl
from .http_responses import DENIED_CODES, ResponseWriter

__all__ = ["CallTask", "LoginTask", "RouteTask"]


class _PoolTask:
    """A task that only the pool runs."""

    speed = Speed.SLOW
    is_serial = True
    hooks = None
    timeout: float | None = None

    def __init__(self, session: Session, writer: ResponseWriter) -> None:
        self.session = session
        self._writer = writer

    def refuse(self, reason: str) -> HttpResponse:
        """Return the response if no worker can run it."""
        return self._writer.unavailable(reason)

    def expire(self) -> HttpResponse:
        """Return the response after the deadline."""
        return self.refuse("the time is over")

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""


class RouteTask(_PoolTask):
    """Answers a request in the pool, since that costs too much for the leading thread, or runs code of the host.

    Args:
        session: the client.
        writer: writes the errors.
        route: makes the response, or the task that leads to it.
    """

    kind: TaskKind = TaskKind.REQUEST

    def __init__(
        self, session: Session, writer: ResponseWriter, route: Callable[[], HttpResponse | Task[HttpResponse]]
    ) -> None:
        super().__init__(session, writer)
        self._route = route

    def run(self) -> HttpResponse | Task[HttpResponse]:
        """Answer it."""
        return self._route()


class LoginTask(_PoolTask):
    """Verifies the password of a request.

    Args:
        access: verifies it.
        credentials: what the client has sent.
        admission: what follows if they are right.
        writer: writes the errors.
    """

    kind = TaskKind.LOGIN

    def __init__(
        self, access: AccessControl, credentials: NeedsPassword, admission: Admission, writer: ResponseWriter
    ) -> None:
        super().__init__(admission.session, writer)
        self._access = access
        self._credentials = credentials
        self._admission = admission

    def run(self) -> HttpResponse | Admission:
        """Verify the password."""
        denial = self._access.authenticator.verify_credentials(self.session, self._credentials)
        return self._admission if denial is None else self._writer.denied(denial)


class CallTask:
    """Runs a call, or a batch, and makes a response of its answer.

    Args:
        call: the call.
        writer: writes the response.
    """

    is_serial = True
    hooks = None

    def __init__(self, call: SingleCall | BatchCall, writer: ResponseWriter) -> None:
        self._call = call
        self._writer = writer
        self.session = call.session
        self.speed = call.speed
        self.timeout = call.timeout
        self.kind = TaskKind.REQUEST if call.speed < Speed.SLOW else call.kind

    def run(self) -> HttpResponse | Future[HttpResponse]:
        """Run it."""
        answer = self._call.run()
        if isinstance(answer, Future):
            return convert_future(answer, self._respond)
        return self._respond(answer)

    def _respond(self, answer: bytes | None) -> HttpResponse:
        for hook in self._call.hooks or ():
            hook(False)  # there is no connection on which messages could follow the answer
        if isinstance(self._call, SingleCall):
            error = self._call.error
            if error is not None and error.code in DENIED_CODES:
                return self._writer.rpc_error(self._call.id or NULL_ID, error)
        return self._writer.answer(answer)

    def refuse(self, reason: str) -> HttpResponse:
        """Return the response if no worker can run it."""
        return self._writer.unavailable(reason)

    def expire(self) -> HttpResponse:
        """Return the error for the deadline, as over a WebSocket."""
        return self._writer.answer(self._call.expire())

    def on_stall(self) -> None:
        """Record that the call has held up its thread."""
        self._call.on_stall()
