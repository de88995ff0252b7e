"""The lead: the right to touch the loop's state, which a worker can lose in one place only, inside a handler.

The leader announces each call before it runs it. When the handler returns, the leader takes the announcement back under
`claim`; as long as it is still there, it leads. The supervisor, seeing the same call for too long, takes the
announcement away under the same lock: from then on the supervisor has the lead, and passes it to a free worker. The call
becomes an ordinary call of the pool, in the thread where it is. Its thread learns of that when the handler returns, at
last or never.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..protocol.message_parser import Event
from .connection import Connection
from .interfaces import Answer, Call
from .pending_call import PendingCall

__all__ = ["LoopOwnership", "OwnershipLost", "Work"]

logger = logging.getLogger("dilithion_ws.net")


class OwnershipLost(BaseException):
    """Unwinds a worker that leads no more; not an Exception, so that no handler of those swallows it."""


Work = tuple[Connection, list[Event], int, list[bytes]]
"""What the leader has under way while a handler runs, all that the next leader needs to go on with it: whose message it
is, what was received together with it, which of that the handler is working on, and frames that answer what came before
and are not sent yet. (A plain tuple: one is made for every call.)"""


class LoopOwnership:
    """The announcement of the call that the leader is running.

    Args:
        make_pending: makes the pool's view of a call that was taken over.
        on_call: called when a call begins while `watched` is false.
    """

    __slots__ = ("_claim", "_make_pending", "_on_call", "_taken", "call", "watched", "work")

    def __init__(self, make_pending: Callable[[Connection, Call], PendingCall], on_call: Callable[[], None]) -> None:
        self._claim = threading.Lock()  # guards `call` being taken back or away, and `_taken`
        self._make_pending = make_pending
        self._on_call = on_call
        self._taken: dict[int, PendingCall] = {}  # by identity of the call
        self.call: Call | None = None
        self.work: Work | None = None
        self.watched = False

    def run(self, call: Call, work: Work) -> Answer | Call | None:
        """Runs a call in the leading thread.

        Raises:
            LeadLostError: the call took so long that another worker leads now. The answer has been sent.
        """
        self.work = work
        self.call = call
        if not self.watched:
            self.watched = True
            self._on_call()
        try:
            answer = call.run()
        except BaseException:  # a fault of ours, for `run` must not raise; the lead must not be lost to it
            logger.exception("a call raised")
            answer = call.refuse("internal error")
        with self._claim:
            if self.call is call:
                self.call = None
                return answer
            pending = self._taken.pop(id(call))
        pending.finish(answer)
        raise OwnershipLost

    def take(self, call: Call) -> tuple[Work, PendingCall] | None:
        """Takes the lead from the worker that is running this call; None where it has just ended.

        The caller leads from now on, until it gives the lead to somebody.
        """
        with self._claim:
            if self.call is not call:
                return None
            work = self.work
            assert work is not None
            self.call = None
            pending = self._taken[id(call)] = self._make_pending(work[0], call)
        return work, pending
