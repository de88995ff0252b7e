"""A call that runs in the pool: answered exactly once, by its worker or by its deadline, whichever comes first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..config.limits import Limits, limit_reached
from ..protocol.frames import SMALL_HEADERS, TEXT, frame
from ..protocol.message_encoder import JSON, MessageEncoder
from ..util.clock import Clock
from .connection import ALL, FINISHING, OPEN, Connection, SendResult
from .interfaces import Answer, Call

if TYPE_CHECKING:
    from typing import Protocol

    class Owner(Protocol):
        """What the call reports to: the leader."""

        limits: Limits
        clock: Clock

        def post(self, command: Callable[[], None]) -> None: ...

        def settle(self, pending: PendingCall, sent: SendResult) -> None: ...

        def pass_on(self, pending: PendingCall, call: Call) -> None: ...


__all__ = ["PendingCall", "to_frame"]

logger = logging.getLogger("dilithion_ws.net")

_TEXT_HEADERS = SMALL_HEADERS[TEXT]
_SMALL = 65536
"""An answer of this size goes to the outbox however full it is: a refusal that took its place would not be smaller."""


def to_frame(answer: Answer, framing: MessageEncoder) -> bytes:
    """The frame of an answer, as its connection has it."""
    if framing is JSON and isinstance(answer, bytes):
        size = len(answer)
        return _TEXT_HEADERS[size] + answer if size < 126 else frame(TEXT, answer)
    return framing.frame(answer) if isinstance(answer, bytes) else framing.raw(*answer)


class PendingCall:
    """One call in the pool or in its queue.

    Attributes:
        connection: who asked.
        answered: whether the client has been told, or nothing is left to tell. Guarded by the connection's lock.
    """

    __slots__ = ("_call", "_owner", "_told", "answered", "connection")

    def __init__(self, owner: Owner, connection: Connection, call: Call) -> None:
        self._owner = owner
        self.connection = connection
        self._call = call
        self.answered = False
        self._told = 0  # how many hooks belong to what was sent; guarded by the connection's lock

    def run(self) -> None:
        """Does the work in a worker, unless its deadline passed while it was waiting."""
        if self.answered:
            return
        if self.is_login and self.connection.peer_has_gone:
            self.finish(None)  # no password is computed for nobody
            return
        try:
            answer = self._call.run()
        except BaseException:  # a fault of ours, for `run` must not raise; the client must have an answer
            logger.exception("a call raised")
            answer = self._call.refuse("internal error")
        self.finish(answer)

    def finish(self, answer: Answer | Call | None) -> None:
        """Sends the answer, from the worker; an answer too late is dropped, for the client was told of the time-out."""
        if answer is not None and not isinstance(answer, (bytes, tuple)):
            call = answer
            self._owner.post(lambda: self._owner.pass_on(self, call))
            return
        sent = self._tell(answer)
        for hook in (self._call.hooks or ())[self._told :]:
            hook(False)  # their answers never went out
        if sent is not None:
            self._owner.post(lambda: self._owner.settle(self, sent))

    def refusal(self, reason: str) -> Answer | None:
        """The answer where no worker can run it."""
        return self._call.refuse(reason)

    def give_up(self) -> bool:
        """Ends without an answer, since another call takes its place; False where the client has had one."""
        with self.connection.lock:
            answered, self.answered = self.answered, True
            return not answered

    @property
    def serial(self) -> bool:
        """See `Call`."""
        return self._call.serial

    @property
    def is_login(self) -> bool:
        """See `Call`."""
        return self._call.is_login

    def stalled(self) -> None:
        """Tells the work that it holds up its thread."""
        self._call.stalled()

    def expire(self) -> None:
        """Tells the client that its call timed out; run by the leader."""
        if not self.answered:
            told = len(self._call.hooks or ())  # before the answers are put together
            sent = self._tell(self._call.expire(), told)
            if sent is not None:
                self._owner.settle(self, sent)

    def _tell(self, answer: Answer | None, told: int | None = None) -> SendResult | None:
        """Sends the one answer, and calls the hooks of what is in it; None where there was one before."""
        hooks = self._call.hooks or ()
        sent = self._send(answer, len(hooks) if told is None else told)
        for hook in hooks[: self._told] if sent is not None else ():
            hook(True)
        return sent

    def _send(self, answer: Answer | None, told: int) -> SendResult | None:
        connection, limits = self.connection, self._owner.limits
        data = b"" if answer is None else to_frame(answer, connection.framing)
        most = limits.connections.outbox + limits.messages.result_size
        while True:
            with connection.lock:
                if self.answered:
                    return None
                if (
                    len(data) <= _SMALL
                    or connection.unsent <= limits.connections.outbox
                    or connection.unsent + len(data) <= most
                ):
                    self.answered = True
                    self._told = told
                    if not data or connection.state not in (OPEN, FINISHING):
                        return ALL
                    return connection.write(data, self._owner.clock)
            told = 0
            refusal = self._call.refuse(f"answers wait unread past the {limit_reached(limits, 'outbox')}")
            data = b"" if refusal is None else to_frame(refusal, connection.framing)
