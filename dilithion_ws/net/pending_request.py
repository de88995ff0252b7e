"""An HTTP request or an upgrade whose answer is worked out in the pool."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ..protocol.handshake import UpgradeRequest
from ..protocol.http import HttpRefusal, HttpResponse
from ..session import Session
from ..util.enums import TaskKind
from ..util.futures import Future
from ..util.thread_contracts import any_thread, leader_only
from .call_scheduler import CallScheduler
from .connection import HTTP, Connection
from .interfaces import Accepted, Admission, Task
from .mailbox import Mailbox

__all__ = ["PendingRequest", "RequestOutcome"]

logger = logging.getLogger("dilithion_ws.net")

RequestOutcome = HttpResponse | HttpRefusal | Accepted | Admission | Task[Any] | Future[Any]
"""The answer to a request, or what leads to it."""


def _as_fault(refusal: Any) -> HttpResponse | HttpRefusal:
    """Return a refusal without an invitation to repeat the request, part of which may have been carried out."""
    headers = tuple(header for header in refusal.headers if header[0] != b"Retry-After")
    fault: HttpResponse | HttpRefusal = replace(refusal, status=500, headers=headers)
    return fault


class PendingRequest:
    """One request. The worker only reports the outcome. The leader writes the response.

    Args:
        connection: the client; it is not read until the response was written.
        task: the work.
        mailbox: where the outcome is reported.
        scheduler: informed when the client has got its answer without the task.
        upgrade: the request, if it asks for a WebSocket.
    """

    __slots__ = ("_future", "_mailbox", "_scheduler", "_task", "connection", "upgrade")

    def __init__(
        self,
        connection: Connection,
        task: Task[Any],
        mailbox: Mailbox,
        scheduler: CallScheduler,
        upgrade: UpgradeRequest | None = None,
    ) -> None:
        self.connection = connection
        self.upgrade = upgrade
        self._task = task
        self._mailbox = mailbox
        self._scheduler = scheduler
        self._future: Future[Any] | None = None

    @property
    def kind(self) -> TaskKind:
        """See `Task`."""
        return self._task.kind

    @property
    def session(self) -> Session:
        """See `Task`."""
        return self._task.session

    @any_thread
    def run(self) -> None:
        """Do the work, in a worker."""
        try:
            # A client that has disconnected needs no answer; a hash for it would only delay the logins behind it. The end
            # of a request's stream does not show that: the client may have closed its own half only.
            gone = self.connection.state is not HTTP or (
                self.upgrade is not None and self.connection.has_disconnected()
            )
            outcome = self.refusal("the client has disconnected") if gone else self._task.run()
        except Exception:  # a fault of this package; the client needs an answer anyway
            logger.exception("answering %r failed", self.connection)
            outcome = _as_fault(self._task.refuse("internal error"))
        self._report(outcome)

    @any_thread
    def wait_for(self, future: Future[Any]) -> None:
        """Report the result of a future once there is one. No thread waits for it."""
        self._future = future
        future.add_done_callback(lambda done: None if done.cancelled() else self._report(done.result()))

    @leader_only
    def cancel(self) -> None:
        """Cancel the future that the answer waits for, if there is one."""
        if self._future is not None:
            self._future.cancel()

    @leader_only
    def expire(self) -> HttpResponse:
        """Return the response to send when the deadline has passed."""
        self._scheduler.cancel(self.run)
        self._scheduler.give_up(self.run)
        response = self._task.expire()
        assert isinstance(response, HttpResponse)
        return response

    @any_thread
    def evict(self, reason: str) -> None:
        """Report that another login has taken the place in the queue."""
        self._report(self.refusal(reason))

    @any_thread
    def refusal(self, reason: str) -> Any:
        """Return the answer to give if no worker can run the task."""
        return self._task.refuse(reason)

    @any_thread
    def _report(self, outcome: Any) -> None:
        self._mailbox.post(lambda leader: leader.on_request_done(self, outcome))
