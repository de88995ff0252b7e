"""Answer the messages of open connections, in order, and track the calls that are not answered yet.

For the leading thread. The path of a message: `ConnectionHandler.on_ready` reads bytes, `MessageParser.receive` parses
them into events, and `serve` passes each data event to `Service.receive`. That returns the answer, or a task. A fast task
runs here (`LoopOwnership.run`); a slow one becomes a `PendingCall` in the pool, whose worker sends the answer itself.

Order. Events of one connection are looked at in the order in which they arrived. An answer that was computed here is sent
before the next event is looked at, or together with the next answers. Answers of the pool are sent when they are ready:
JSON-RPC matches them by id. A pong or the answer to a close frame follows the answers to what arrived before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..config.limits import limit_reached
from ..errors import CloseCode, CloseStatus
from ..protocol.frames import BINARY, CLOSE, PING, PONG, close_payload, encode_frame
from ..protocol.message_parser import MessageEvent
from ..util.enums import Speed, TaskKind
from ..util.futures import Future
from ..util.thread_contracts import leader_only
from .answer_batch import AnswerBatch
from .call_scheduler import CallScheduler
from .close_handshake import CloseHandshake
from .connection import CLOSED, OPEN, SENT, Connection, SendResult
from .encode_task import EncodeTask
from .interfaces import RawReply, Reply, Task
from .loop_ownership import LeaderWork, LoopOwnership, RevokedWork
from .pending_call import PendingCall, encode_reply
from .reactor import Reactor

__all__ = ["MessageServer"]

logger = logging.getLogger("dilithion_ws.net")

DECLARED_FAST, MEASURED_FAST, UNKNOWN, _SLOW = Speed

_INTERNAL_ERROR = close_payload(CloseCode.INTERNAL_ERROR, "internal error")


class MessageServer:
    """Answers messages.

    Args:
        reactor: the connections.
        closer: ends them.
        scheduler: hands tasks to the pool.
        ownership: runs fast tasks.

    Attributes:
        answers: single answers that are not sent yet.
        pending_hooks: hooks of answers that are not sent yet.
    """

    def __init__(
        self, reactor: Reactor, closer: CloseHandshake, scheduler: CallScheduler, ownership: LoopOwnership
    ) -> None:
        self._reactor = reactor
        self._closer = closer
        self._scheduler = scheduler
        self._ownership = ownership
        self.service = reactor.service
        self.is_paused = reactor.is_paused
        self.answers = AnswerBatch(reactor.clock, reactor.limits.connections.answer_delay, self)
        self.pending_hooks: list[Callable[[bool], None]] = []

    @leader_only
    def serve(self, connection: Connection, events: list[MessageEvent]) -> None:
        """Answer events in order. Those that cannot be looked at yet become deferred events of the connection."""
        session, encoder = connection.session, connection.encoder
        assert session is not None
        max_unsent = self._reactor.limits.connections.outbox
        output: list[bytes] = []
        size = connection.unsent
        clock = self._reactor.clock
        end_of_turn = clock() + self._reactor.limits.connections.turn_time
        for index, event in enumerate(events):
            if index and clock() > end_of_turn:
                self.defer(connection, events[index:])
                self._reactor.mailbox.post(lambda leader: leader.messages.resume(connection))
                break
            kind = event.kind
            if kind <= BINARY:
                reply = self.service.receive(session, kind, event.payload)
                reply_class = reply.__class__
                if reply is not None and reply_class is not bytes and reply_class is not RawReply:
                    reply = self.run_task(reply, connection, events, index, output)  # type: ignore[arg-type]
                if reply is None:
                    self.call_hooks()
                    if self.is_paused(connection):
                        self.defer(connection, events[index + 1 :])
                        break
                    continue
                data = encode_reply(reply, encoder)  # type: ignore[arg-type]
            elif kind == PING:
                if not self.service.may_ping(session):
                    continue
                data = encode_frame(PONG, event.payload)
            elif kind == PONG:
                continue
            else:
                self.send_all(connection, output)
                if connection.state is OPEN:
                    end = self._closer.on_close if kind == CLOSE else self._closer.fail
                    end(connection, event.payload)
                return
            output.append(data)
            size += len(data)
            if self.pending_hooks:
                self.send_all(connection, output)
                self.call_hooks()
            if size > max_unsent:
                self.send_all(connection, output)
                size = connection.unsent
                if connection.state is not OPEN:
                    return
                if self.is_paused(connection):
                    self.defer(connection, events[index + 1 :])
                    break
        self.send_all(connection, output)
        self.close_if_demanded(connection)  # after the answers, also to what arrived together with the excess

    @leader_only
    def run_task(
        self, task: Task[Reply], connection: Connection, events: list[MessageEvent], index: int, output: list[bytes]
    ) -> Reply | None:
        """Run a task here if it is expected to be fast, otherwise in the pool. Return an answer to send now, or None.

        A task that was measured as fast may still block. So it runs here only if, after such a stall, another thread
        could take over: a task of unknown speed needs an idle worker for that, one measured as fast a leader that is
        not the last thread able to lead. Only a task that the host has declared fast runs here in any case.
        """
        speed = task.speed
        if connection.encoder.is_host_code:
            speed = _SLOW  # whatever the task takes, the encoding of its answer may block
        if speed <= DECLARED_FAST or (
            not self._reactor.fast_calls_only
            and (speed <= MEASURED_FAST or (speed <= UNKNOWN and self._scheduler.has_idle_worker()))
        ):
            if speed == UNKNOWN:
                self.answers.send()
            outcome: Any = self._ownership.run(task, LeaderWork(connection, events, index, output))
            outcome_class = outcome.__class__
            if outcome is None or outcome_class is bytes or outcome_class is RawReply:
                if task.hooks:
                    self.pending_hooks += task.hooks
                return outcome  # type: ignore[no-any-return]
            if isinstance(outcome, Future):
                pending = self._make_pending(connection, task)
                self._track(pending)
                pending.wait_for(outcome)
                return None
            return self.run_task(outcome, connection, events, index, output)
        pending = self._make_pending(connection, task)
        full = self._scheduler.submit(pending)
        if full is None:
            self._track(pending)
            return None
        refusal = task.refuse(full)
        if not connection.encoder.is_host_code:
            return refusal
        if isinstance(refusal, bytes):
            self._submit_encoding(connection, refusal, ())
        return None

    def _submit_encoding(self, connection: Connection, reply: bytes, hooks: Sequence[Callable[[bool], None]]) -> None:
        """Have an answer encoded by a codec of the host, and sent. Close the connection if no worker can do it."""
        assert connection.session is not None
        pending = self._make_pending(connection, EncodeTask(connection.session, reply, hooks))
        full = self._scheduler.submit(pending)
        if full is None:
            self._track(pending)
            return
        for hook in hooks:
            hook(False)
        self._closer.start_close(connection, CloseStatus(CloseCode.TRY_AGAIN_LATER, full))

    def _make_pending(self, connection: Connection, task: Task[Reply]) -> PendingCall:
        return PendingCall(connection, task, self._reactor.mailbox, self._reactor.limits)

    @leader_only
    def call_hooks(self) -> None:
        """Call the hooks of answers that were queued: messages that must follow an answer may be sent now."""
        self.answers.send()
        while self.pending_hooks:
            self.pending_hooks.pop(0)(True)

    # Sending

    @leader_only
    def send_all(self, connection: Connection, output: list[bytes]) -> None:
        """Send frames together, and empty the list."""
        if output:
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            result = connection.send(data)
            if result is not SENT:
                self.after_send(connection, result)

    @leader_only
    def after_send(self, connection: Connection, result: SendResult) -> None:
        """Handle that a socket accepted only a part, or failed."""
        if result is not SENT and not self._reactor.after_send(connection, result):
            self._closer.abort(connection)

    @leader_only
    def close_if_demanded(self, connection: Connection) -> None:
        """Close a connection if policy has demanded that (`Session.close_after`)."""
        session = connection.session
        if session is not None and session.close_after is not None:
            self.answers.send()
            status, session.close_after = session.close_after, None
            self._closer.close_when_idle(connection, status)

    # Deferred events

    @leader_only
    def defer(self, connection: Connection, events: list[MessageEvent]) -> None:
        """Stop looking at a connection's events until `resume`."""
        if events:
            connection.deferred_events = events + (connection.deferred_events or [])
        self._reactor.update_interest(connection)

    def _defer_if_open(self, connection: Connection, events: list[MessageEvent]) -> None:
        if connection.state is OPEN:
            self.defer(connection, events)

    @leader_only
    def resume(self, connection: Connection) -> None:
        """Continue with deferred events, after something may have happened that they were waiting for."""
        events = connection.deferred_events
        if events is not None and connection.state is OPEN:
            connection.deferred_events = None
            if self.is_paused(connection):
                connection.deferred_events = events
            else:
                try:
                    self.serve(connection, events)
                except Exception:
                    self.on_fault(connection)
        self._reactor.update_interest(connection)

    @leader_only
    def on_fault(self, connection: Connection) -> None:
        """Close a connection after a fault of this package. The others continue. Call it in an exception handler."""
        logger.exception("serving %r failed", connection)
        try:
            self._closer.fail(connection, _INTERNAL_ERROR)
        except Exception:  # those who call this go on with other clients, or have the loop to pass on
            logger.exception("closing %r failed", connection)

    @leader_only
    def on_encoding_fault(self, connection: Connection) -> None:
        """Close a connection whose answers the codec of the host cannot encode."""
        self._closer.fail(connection, _INTERNAL_ERROR)

    # Calls that are not answered yet

    def _track(self, pending: PendingCall) -> None:
        """Count a call that will be answered later, and give it its deadline."""
        pending.connection.in_flight += 1
        if pending.is_serial:
            pending.connection.is_paused = True
        self._reactor.calls.set(pending, self._reactor.now, self._timeout_of(pending))

    def _timeout_of(self, pending: PendingCall) -> float:
        timeout = pending.timeout
        return self._reactor.limits.calls.call_timeout if timeout is None else timeout

    def _untrack(self, pending: PendingCall) -> None:
        self._reactor.calls.remove(pending)
        pending.connection.in_flight -= 1
        if pending.is_serial:
            pending.connection.is_paused = False
        if pending.kind is TaskKind.LOGIN and pending.session.is_authorized:
            self._reactor.admit(pending.connection)

    @leader_only
    def on_call_done(self, pending: PendingCall, result: SendResult) -> None:
        """Continue with a connection whose pending call was answered, by a worker or by its deadline."""
        self._untrack(pending)
        connection = pending.connection
        if connection.state is not CLOSED:
            self.after_send(connection, result)
            self._after_call(connection)

    @leader_only
    def on_follow_up(self, pending: PendingCall, task: Task[Reply]) -> None:
        """Treat the task that a pending call has resulted in like a new one."""
        if not pending.abandon():
            return  # the deadline has passed
        connection = pending.connection
        self._untrack(pending)
        if connection.state is OPEN:
            reply = self.run_task(task, connection, [], 0, [])
            if reply is not None:
                self.after_send(connection, connection.send(encode_reply(reply, connection.encoder)))
            self.call_hooks()
            self._after_call(connection)

    def _after_call(self, connection: Connection) -> None:
        """Close a connection if its last call was awaited for that. Otherwise continue with its deferred events."""
        self.close_if_demanded(connection)
        if connection.in_flight == 0:
            if connection.close_when_idle is not None:
                self._closer.start_close(connection, connection.close_when_idle)
            elif self._reactor.registry.is_stopping:
                self._closer.start_close(connection, CloseStatus(CloseCode.GOING_AWAY, "the server is stopping"))
        self.resume(connection)

    @leader_only
    def expire_calls(self) -> None:
        """Answer the calls whose deadline has passed."""
        reactor = self._reactor
        expired = reactor.calls.due(reactor.now)
        for pending in expired:  # before any thread is replaced, which would begin to run one of them
            self._scheduler.cancel(pending.run)
        for pending in expired:
            if pending in reactor.calls:
                self._expire(pending)

    @leader_only
    def abandon_calls(self) -> None:
        """Cancel the futures that calls are waiting for. The loop ends, so their deadlines will not be noticed."""
        for pending in self._reactor.calls:
            pending.cancel()

    def _expire(self, pending: PendingCall) -> None:
        """Answer one call. Its worker may have answered it just now. Then its report is in the mailbox already."""
        reactor, connection = self._reactor, pending.connection
        reactor.calls.set(pending, reactor.now, self._timeout_of(pending))
        closes = pending.closes_when_late
        if closes:
            connection.deferred_events = None
        if connection.encoder.is_host_code:
            self._expire_by_host_codec(pending)
        else:
            result = pending.expire()
            self._scheduler.give_up(pending.run)
            if result is not None:
                self.on_call_done(pending, result)
        if closes:  # the next message must not overtake this one, which may never end
            reason = limit_reached(reactor.limits, "call_timeout")
            self._closer.start_close(connection, CloseStatus(CloseCode.INTERNAL_ERROR, reason))

    def _expire_by_host_codec(self, pending: PendingCall) -> None:
        """Have the error for a deadline encoded by a worker, unless the connection is closed anyway."""
        connection = pending.connection
        withdrawn = pending.withdraw()
        self._scheduler.give_up(pending.run)
        if withdrawn is None:
            return  # its worker has answered it
        self._untrack(pending)
        if withdrawn.reply and connection.state is OPEN and not pending.closes_when_late:
            self._submit_encoding(connection, withdrawn.reply, withdrawn.hooks)
        else:
            for hook in withdrawn.hooks:
                hook(False)
        if connection.state is not CLOSED:
            self._after_call(connection)

    @leader_only
    def on_evicted(self, pending: PendingCall, reason: str) -> None:
        """Have the refusal of a call encoded by a worker, after another one has taken its place in the queue."""
        withdrawn = pending.withdraw_evicted(reason)
        if withdrawn is None:
            return  # it was answered at its deadline
        connection = pending.connection
        self._untrack(pending)
        if withdrawn.reply and connection.state is OPEN:
            self._submit_encoding(connection, withdrawn.reply, ())
        elif connection.state is OPEN:
            self._closer.start_close(connection, CloseStatus(CloseCode.TRY_AGAIN_LATER, reason))
        if connection.state is not CLOSED:
            self._after_call(connection)

    @leader_only
    def on_ownership_revoked(self, revoked: RevokedWork) -> None:
        """Continue without a task that holds up its thread. Called by the thread that owns the loop now."""
        work, pending = revoked.work, revoked.pending
        self.answers.send()  # before a connection can come again
        pending.on_stall()
        self._track(pending)
        self.send_all(work.connection, work.output)
        self._defer_if_open(work.connection, work.events[work.index + 1 :])
        self._reactor.mailbox.post(lambda leader: leader.messages.resume(work.connection))
