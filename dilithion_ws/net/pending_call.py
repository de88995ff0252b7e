"""A call in the pool, or whose answer is a future. It is answered exactly once, by its worker or by its deadline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..config.limits import Limits, limit_reached
from ..protocol.message_encoder import MessageEncoder
from ..session import Session
from ..util.enums import TaskKind
from ..util.futures import Future
from ..util.thread_contracts import any_thread, leader_only
from .connection import OPEN, SENT, Connection, SendResult
from .encode_task import EncodeTask
from .interfaces import RawReply, Reply, Task
from .mailbox import Mailbox

__all__ = ["PendingCall", "Withdrawn", "encode_reply"]

logger = logging.getLogger("dilithion_ws.net")

_ALWAYS_BUFFERED = 65536
"""Bytes up to which an answer is buffered however full the write buffer is: a refusal would not be smaller."""


def encode_reply(reply: Reply, encoder: MessageEncoder) -> bytes:
    """Return the frame of an answer."""
    if reply.__class__ is RawReply:
        return encoder.encode_raw(reply.opcode, reply.payload)
    return encoder.encode(reply)  # type: ignore[arg-type]


class Withdrawn(NamedTuple):
    """A call that its deadline has ended.

    Attributes:
        reply: the error as JSON, empty if none is expected.
        hooks: those that belong to the error, to be called once it was queued.
    """

    reply: bytes
    hooks: Sequence[Callable[[bool], None]]


class PendingCall:
    """One call in the pool, in its queue, or waiting for a future.

    A worker sends the answer itself, under the connection's lock, and reports to the leader afterwards. So an answer
    never waits for the leader, and the leader learns when the connection may be read again.

    Args:
        connection: the client that called.
        task: the work.
        mailbox: where the end of the call is reported.
        limits: bounds of what may be buffered.

    Attributes:
        is_answered: whether an answer was sent, or is not needed any more. Guarded by the connection's lock.
    """

    __slots__ = ("_future", "_hooks_answered", "_limits", "_mailbox", "_task", "connection", "is_answered")

    def __init__(self, connection: Connection, task: Task[Reply], mailbox: Mailbox, limits: Limits) -> None:
        self.connection = connection
        self._task = task
        self._mailbox = mailbox
        self._limits = limits
        self._future: Future[Reply | None] | None = None
        self.is_answered = False
        self._hooks_answered = 0  # hooks that belong to what was sent; guarded by the connection's lock

    @property
    def is_serial(self) -> bool:
        """See `Task`."""
        return self._task.is_serial

    @property
    def closes_when_late(self) -> bool:
        """Whether its connection is closed at its deadline: nothing may follow, or its answer cannot be sent."""
        return self._task.is_serial or isinstance(self._task, EncodeTask)

    @property
    def kind(self) -> TaskKind:
        """See `Task`."""
        return self._task.kind

    @property
    def timeout(self) -> float | None:
        """See `Task`."""
        return self._task.timeout

    @property
    def session(self) -> Session:
        """The client's session."""
        assert self.connection.session is not None
        return self.connection.session

    @any_thread
    def run(self) -> None:
        """Do the work, in a worker, unless the deadline has passed while it was queued."""
        if self.is_answered:
            return
        if self.kind is TaskKind.LOGIN and self.connection.has_disconnected():
            self.finish(None)  # skip the hash
            return
        try:
            outcome = self._task.run()
        except BaseException:  # a fault of this package, since `run` must not raise; the client needs an answer anyway
            logger.exception("a call raised")
            outcome = self._task.refuse("internal error")
        self.finish(outcome)

    @any_thread
    def finish(self, outcome: Reply | Task[Reply] | Future[Any] | None) -> None:
        """Send the answer, or schedule the follow-up task. An answer after the deadline is dropped."""
        kind = outcome.__class__
        if outcome is None or kind is bytes or kind is RawReply:
            result = None if self.is_answered else self._answer(outcome)  # type: ignore[arg-type]
            self._drop_hooks()
            if result is not None:
                self._mailbox.post(lambda leader: leader.messages.on_call_done(self, result))
        elif isinstance(outcome, Future):
            self.wait_for(outcome)
        else:
            self._mailbox.post(lambda leader: leader.messages.on_follow_up(self, outcome))

    @any_thread
    def wait_for(self, future: Future[Reply | None]) -> None:
        """Send the result of a future once there is one. No thread waits for it."""
        self._future = future
        if self.is_answered:
            future.cancel()
        future.add_done_callback(lambda done: None if done.cancelled() else self.finish(done.result()))

    @any_thread
    def evict(self, reason: str) -> None:
        """Answer that another job has taken the place in the queue. A codec of the host does not run here."""
        if self.connection.encoder.is_host_code:
            self._mailbox.post(lambda leader: leader.messages.on_evicted(self, reason))
        else:
            self.finish(self._task.refuse(reason))

    @leader_only
    def withdraw_evicted(self, reason: str) -> Withdrawn | None:
        """Mark the call as answered after an eviction, for a caller that sends the refusal itself. See `withdraw`."""
        refusal = self._task.refuse(reason)
        if not self.abandon():
            return None
        self._drop_hooks()
        return Withdrawn(refusal if isinstance(refusal, bytes) else b"", ())

    @any_thread
    def abandon(self) -> bool:
        """Mark the call as answered without sending an answer. Return False if it was answered before."""
        with self.connection.lock:
            was_answered, self.is_answered = self.is_answered, True
            return not was_answered

    @leader_only
    def cancel(self) -> None:
        """Cancel the future that the call is waiting for, if there is one. Its answer will not be sent."""
        if self._future is not None and self.abandon():
            self._future.cancel()
            for hook in self._task.hooks or ():
                hook(False)

    @leader_only
    def on_stall(self) -> None:
        """Record that the task has held up the leading thread."""
        self._task.on_stall()

    @leader_only
    def expire(self) -> SendResult | None:
        """Send the error for the deadline. Return the result of sending, or None if the call was answered before."""
        if self.is_answered:
            return None
        hook_count = self._count_expired_hooks()
        result = self._answer(self._task.expire(), hook_count)
        if self._future is not None:
            self._future.cancel()
        if result is not None:
            self._drop_hooks()
        return result

    @leader_only
    def withdraw(self) -> Withdrawn | None:
        """Mark the call as answered at its deadline, for a caller that sends the error itself.

        Returns:
            The error; None if the call was answered before.
        """
        if self.is_answered:
            return None
        hook_count = self._count_expired_hooks()
        reply = self._task.expire()
        if not self.abandon():
            return None
        if self._future is not None:
            self._future.cancel()
        kept = list((self._task.hooks or ())[:hook_count])
        self._hooks_answered = hook_count  # the caller's from here on, whenever the task ends
        self._drop_hooks()
        return Withdrawn(reply if isinstance(reply, bytes) else b"", kept)

    def _drop_hooks(self) -> None:
        """Call the hooks whose answers are known never to be sent."""
        hooks = list(self._task.hooks or ())[self._hooks_answered :]
        self._hooks_answered += len(hooks)
        for hook in hooks:
            hook(False)

    def _count_expired_hooks(self) -> int:
        """Return how many hooks belong to the error for the deadline.

        Those of a batch belong to the answers so far, which are sent with it; those of a future to an answer that is not.
        """
        return 0 if self._future is not None else len(self._task.hooks or ())

    def _answer(self, reply: Reply | None, hook_count: int | None = None) -> SendResult | None:
        """Send the answer and call the hooks that belong to it. Return None if it was answered before."""
        hooks = self._task.hooks or ()
        result = self._send(reply, len(hooks) if hook_count is None else hook_count)
        for hook in hooks[: self._hooks_answered] if result is not None else ():
            hook(True)
        return result

    def _send(self, reply: Reply | None, hook_count: int) -> SendResult | None:
        """Send the answer, or a refusal if too much is buffered for the client already."""
        connection, limits = self.connection, self._limits
        data = self._encode(reply)
        outbox = limits.connections.outbox
        max_buffered = outbox + limits.messages.result_size
        if data and connection.broadcasts is not None:
            connection.broadcasts.deliver(connection)  # the answer of a handler that broadcasts follows its broadcast
        while True:
            with connection.lock:
                if self.is_answered:
                    return None
                unsent = connection.unsent
                if len(data) <= _ALWAYS_BUFFERED or unsent <= outbox or unsent + len(data) <= max_buffered:
                    self.is_answered = True
                    if connection.state is not OPEN:
                        return SENT  # nothing follows a close frame, so no hook belongs to a sent answer
                    self._hooks_answered = hook_count
                    return connection.write(data) if data else SENT
            hook_count = 0
            refusal = self._task.refuse(f"answers wait unread past the {limit_reached(limits, 'outbox')}")
            data = self._encode(refusal)

    def _encode(self, reply: Reply | None) -> bytes:
        """Return the frame of an answer, if there is one. If a codec of the host raises, close the connection."""
        try:
            return b"" if reply is None else encode_reply(reply, self.connection.encoder)
        except Exception:
            logger.exception("a codec can't encode an answer to %r", self.connection)
            connection = self.connection
            self._mailbox.post(lambda leader: leader.messages.on_encoding_fault(connection))
            return b""
