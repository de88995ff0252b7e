"""What the leader does with the bytes of a connection: the upgrade, then message by message, until it must wait."""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from ..config.limits import limit_reached
from ..errors import CloseCode
from ..protocol.frames import BINARY, CLOSE, PING, PONG, close_payload, frame
from ..protocol.message_parser import FAILED, Event
from .close_handshake import CloseHandshake
from .connection import (
    ALL,
    BROKEN,
    CLOSED,
    CLOSING,
    DRAINING,
    FINISHING,
    HANDSHAKE,
    OPEN,
    PROXIED,
    SECURING,
    Connection,
    SendResult,
)
from .handshake_handler import HandshakeHandler
from .interfaces import Answer, Call, Waiting
from .loop_ownership import LoopOwnership, Work
from .pending_call import PendingCall, to_frame
from .poller import ENDED, READ, WRITE
from .proxy_handler import ProxyProtocolHandler
from .reactor import Reactor
from .tls_handshake import TlsHandshakeHandler
from .worker_pool import Job

__all__ = ["ConnectionHandler"]

logger = logging.getLogger("dilithion_ws.net")

_READ_SIZE = 65536
_ids = itertools.count(1)
"""Numbers of connections, never given twice in a process: a handler that outlives a stop may still know one."""

_WAITS, _UNKNOWN_PACE, _SEEN_FAST_PACE, _DECLARED_FAST_PACE = 4, 2, 1, 0


class ConnectionHandler:
    """Reads, has messages answered, writes. Leader only, except where noted.

    Args:
        hub: the connections.
        closing: how they end.
        proxied: how connections of proxies begin.
        securing: how TLS begins.
        lead: runs calls in the leading thread.
        submit: gives a call to the pool; False where its queue is full.
        submit_job: the same for an HTTP request.
        submit_login: the same for the check of a password at the upgrade; also takes whose it is, and what to do where
            another takes its place.
        has_spare: whether a worker is free to take the lead, should a call keep the leader.
        make_pending: makes the pool's view of a call.
        post: has the leader run something later.

    Attributes:
        restricted: the leader is the last thread that can lead, so that it must not run a call that could keep it.
    """

    def __init__(
        self,
        hub: Reactor,
        closing: CloseHandshake,
        proxied: ProxyProtocolHandler,
        securing: TlsHandshakeHandler,
        lead: LoopOwnership,
        submit: Callable[[PendingCall], bool],
        submit_job: Callable[[Job], bool],
        submit_login: Callable[[Connection, Any, Job, Job], bool],
        has_spare: Callable[[], bool],
        make_pending: Callable[[Connection, Call], PendingCall],
        post: Callable[[Job], None],
    ) -> None:
        self._hub = hub
        self._closing = closing
        self._proxied = proxied
        self._securing = securing
        self._lead = lead
        self._submit = submit
        self._post = post
        self._has_spare = has_spare
        self._make_pending = make_pending
        self.restricted = False
        self.opening = HandshakeHandler(hub, closing, submit_job, submit_login, post, self._serve)
        self._hooks: list[Callable[[bool], None]] = []

    def welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Takes in a socket that the acceptor has admitted."""
        connection = Connection(next(_ids), sock, address, self._hub.now)
        self._securing.begin(connection)
        self._proxied.begin(connection)
        self._hub.add(connection)
        if self._hub.stopping:
            self._closing.begin(connection, 1001, "the server is stopping")

    def ready(self, connection: Connection, mask: int) -> None:
        """The poller says that the socket can be read, or written, or has ended."""
        try:
            if mask != READ:
                if connection.state is SECURING:
                    self._securing.step(connection)
                    return
                if mask & WRITE and not self._flush(connection):
                    return
                if not mask & READ:
                    if mask & ENDED:
                        self._closing.drop(connection)
                    return
            self._read(connection)
        except Exception:
            self._failed(connection)

    def on_timer(self, connection: Connection, at: float) -> None:
        """A moment has come at which something of the connection may be overdue."""
        try:
            self._closing.on_timer(connection, at)
        except Exception:
            self._failed(connection)

    def _failed(self, connection: Connection) -> None:
        """A fault of ours, met with one connection: it goes, the others stay."""
        logger.exception("serving %r failed", connection)
        self._closing.fail(connection, close_payload(CloseCode.INTERNAL_ERROR, "internal error"))

    def _flush(self, connection: Connection) -> bool:
        sent = connection.flush(self._hub.now)
        if sent is BROKEN:
            self._closing.drop(connection)
            return False
        if sent is ALL:
            if connection.state is DRAINING:
                self._closing.end_of_output(connection)
            elif connection.state is HANDSHAKE:
                self.opening.web.again(connection)
            elif connection.state is OPEN:
                self._hub.service.drained(connection.session)
        self.resume(connection)
        return connection.state is not CLOSED

    def _read(self, connection: Connection) -> None:
        state, hub = connection.state, self._hub
        if state is SECURING:
            self._securing.step(connection)
            return
        if state is PROXIED:
            self._proxied.receive(connection)
            return
        try:
            data = connection.receive(_READ_SIZE) if connection.secure else connection.sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._closing.drop(connection)
            return
        connection.heard_at = hub.now
        hub.bytes_in += len(data)
        if connection.secure:  # noted before a handler runs, which may cost this thread the lead
            hub.unread.append(connection)
        if state is OPEN:
            if connection.metered:
                hub.service.heard(connection.session, len(data))
            events = connection.stream.receive(data)  # type: ignore[union-attr]
            if len(events) == 1 and events[0][0] <= BINARY:
                self._serve_one(connection, events)
            elif events:
                self._serve(connection, events)
        elif state is HANDSHAKE:
            self.opening.receive(connection, data)
        elif state is CLOSING:
            self._await_close(connection, data)

    def _await_close(self, connection: Connection, data: bytes) -> None:
        """Our close frame is out: messages no longer count, only the peer's close frame does."""
        stream = connection.stream
        assert stream is not None
        for kind, payload in stream.receive(data):
            if kind == CLOSE:
                self._closing.answer(connection, payload)
            elif kind == FAILED:
                self._closing.drain(connection)

    def _serve_one(self, connection: Connection, events: list[Event]) -> None:
        """What `_serve` does where there is one message and nothing else, as nearly always; 3 µs quicker."""
        hub = self._hub
        answer = hub.service.receive(connection.session, *events[0])
        if answer is not None and not isinstance(answer, (bytes, tuple)):
            answer = self._run(connection, answer, (connection, events, 0, []))
        if answer is not None:
            sent = connection.send(to_frame(answer, connection.framing), hub.clock)
            if sent is not ALL:
                self.after_send(connection, sent)
        if self._hooks:
            self._call_hooks()
        if answer is None and hub.must_wait(connection):
            self._put_off(connection, [])

    def _serve(self, connection: Connection, events: list[Event]) -> None:
        """Answers events in order; what can't be looked at yet stays in the connection's backlog."""
        hub, session, framing = self._hub, connection.session, connection.framing
        receive, limit = hub.service.receive, hub.limits.connections.outbox
        output: list[bytes] = []
        size = connection.unsent if connection.outbox is not None else 0
        for at, (kind, payload) in enumerate(events):
            if kind <= BINARY:
                answer = receive(session, kind, payload)
                if answer is not None and not isinstance(answer, (bytes, tuple)):
                    answer = self._run(connection, answer, (connection, events, at, output))
                if answer is None:
                    self._call_hooks()
                    if hub.must_wait(connection):
                        self._put_off(connection, events[at + 1 :])
                        break
                    continue
                data = to_frame(answer, framing)
            elif kind == PING:
                if not hub.service.may_ping(session):
                    continue
                data = frame(PONG, payload)
            elif kind == PONG:
                continue
            else:
                self._send(connection, output)
                if connection.state is OPEN:
                    end = self._closing.answer if kind == CLOSE else self._closing.fail
                    end(connection, payload)
                return
            output.append(data)
            size += len(data)
            if self._hooks:
                self._send(connection, output)
                self._call_hooks()
            if size > limit:
                self._send(connection, output)
                size = connection.unsent
                if connection.state is not OPEN:
                    return
                if hub.must_wait(connection):
                    self._put_off(connection, events[at + 1 :])
                    break
        if output:
            self._send(connection, output)

    def _run(self, connection: Connection, call: Call, work: Work) -> Answer | None:
        """Runs a call here where it is expected to be quick, else has the pool run it; returns an answer to send now."""
        pace = call.pace
        if pace <= _DECLARED_FAST_PACE or (
            not self.restricted and (pace <= _SEEN_FAST_PACE or (pace <= _UNKNOWN_PACE and self._has_spare()))
        ):
            answer = self._lead.run(call, work)
            if answer is None or isinstance(answer, (bytes, tuple)):
                if call.hooks:
                    self._hooks += call.hooks
                return answer
            return self._run(connection, answer, work)
        pending = self._make_pending(connection, call)
        if pace == _WAITS:
            self.went_to_pool(pending)
            cast("Waiting", call).deliver_to(pending.finish)
            return None
        if not self._submit(pending):
            name = "login_queue" if call.is_login else "queue"
            return call.refuse(f"the queue is full; {limit_reached(self._hub.limits, name)}")
        self.went_to_pool(pending)
        return None

    def _call_hooks(self) -> None:
        """Tells those who asked for it that an answer has been sent: what follows it may go out now."""
        while self._hooks:
            self._hooks.pop(0)(True)

    def went_to_pool(self, pending: PendingCall) -> None:
        """Counts a call that the pool has now, and gives it its deadline."""
        pending.connection.in_flight += 1
        if pending.serial:
            pending.connection.serial = True
        self._hub.calls[pending] = self._hub.now + self._hub.limits.calls.call_timeout

    def taken_over(self, work: Work, pending: PendingCall) -> None:
        """The lead was taken from a worker that a call keeps: its connection goes on without it."""
        connection, events, at, output = work
        pending.stalled()
        self.went_to_pool(pending)
        self._send(connection, output)
        if connection.state is OPEN:
            self._put_off(connection, events[at + 1 :])

    def _put_off(self, connection: Connection, rest: list[Event]) -> None:
        if rest:
            connection.backlog = rest + (connection.backlog or [])
        self._hub.arm(connection)

    def _send(self, connection: Connection, output: list[bytes]) -> None:
        if output:
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            sent = connection.send(data, self._hub.clock)
            if sent is not ALL:
                self.after_send(connection, sent)

    def after_send(self, connection: Connection, sent: SendResult) -> None:
        """Does what a send leaves to be done."""
        if sent and not self._hub.after_send(connection, sent):
            self._closing.drop(connection)

    def resume(self, connection: Connection) -> None:
        """Goes on with a connection after something that it was waiting for may have happened."""
        events = connection.backlog
        if events is not None and connection.state is OPEN:
            connection.backlog = None
            if self._hub.must_wait(connection):
                connection.backlog = events
            else:
                try:
                    self._serve(connection, events)
                except Exception:
                    self._failed(connection)
        self._hub.arm(connection)

    def passed_on(self, pending: PendingCall, call: Call) -> None:
        """A call of the pool has ended in another call, which now gets the treatment of a fresh one."""
        connection = pending.connection
        self._ended(pending)
        if connection.state in (OPEN, FINISHING):
            answer = self._run(connection, call, (connection, [], 0, []))
            if answer is not None:
                self.after_send(connection, connection.send(to_frame(answer, connection.framing), self._hub.clock))
            self._call_hooks()
            self._go_on(connection)

    def answered(self, pending: PendingCall, sent: SendResult) -> None:
        """A call of the pool has been answered, or there is nobody left to answer."""
        self._ended(pending)
        if pending.connection.state is not CLOSED:
            self.after_send(pending.connection, sent)
            self._go_on(pending.connection)

    def _ended(self, pending: PendingCall) -> None:
        del self._hub.calls[pending]
        pending.connection.in_flight -= 1
        if pending.serial:
            pending.connection.serial = False

    def _go_on(self, connection: Connection) -> None:
        """After the end of a call: closes where that was waited for, else goes on with what came meanwhile."""
        if connection.in_flight == 0:
            if connection.state is FINISHING:
                self._closing.finish(connection)
                return
            if connection.leaving is not None:
                self._closing.begin(connection, *connection.leaving)
                return
            if self._hub.stopping and connection.state is OPEN:
                self._closing.begin(connection, 1001, "the server is stopping")
                return
        self.resume(connection)
