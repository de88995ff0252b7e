"""The loop of the leading worker: wait for sockets, serve them one after the other, then commands and timers.

One thread at a time is in `lead`. Others hand it work by `post`. The loop's state is never locked: it belongs to
whoever leads, and `lead.py` says how that changes hands.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from ..config.config import Config
from ..config.limits import limit_reached
from ..util.clock import Clock
from ..util.ip import network_of
from .close_handshake import CloseHandshake
from .connection import HANDSHAKE, SECURING, Connection, SendResult
from .connection_handler import ConnectionHandler
from .connection_limiter import ConnectionLimiter
from .interfaces import Call, Service
from .job_queue import QueuedJob
from .loop_ownership import LoopOwnership, OwnershipLost
from .pending_call import PendingCall
from .poller import READ, Waker
from .proxy_handler import ProxyProtocolHandler
from .reactor import Reactor
from .tls import TlsContext
from .tls_handshake import TlsHandshakeHandler
from .worker_pool import Job, WorkerPool

__all__ = ["EventLoop"]

_TEMPORARY_PATIENCE = 0.05
"""Seconds between two looks whether somebody else can lead."""

logger = logging.getLogger("dilithion_ws.net")


class EventLoop:
    """What the leader runs.

    Args:
        config: bounds and times.
        clock: seconds that never go backwards.
        service: who answers.
        admission: the count of connections.
        pool: the workers.
        tls: makes connections secure; None for plain ones.
        on_call: called when a call begins while nobody watches for stalls.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        service: Service,
        admission: ConnectionLimiter,
        pool: WorkerPool,
        on_call: Callable[[], None],
        tls: TlsContext | None = None,
    ) -> None:
        self.limits = config.limits
        self.clock = clock
        self._pool = pool
        self._commands: deque[Callable[[], None]] = deque()
        self._waker = Waker()
        self._polling = False
        self._ended = False
        self.hub = Reactor(config, clock, service, admission)
        self.hub.poller.set_interest(self._waker.fd, 0, READ)
        self.closing = CloseHandshake(self.hub)
        self.current = LoopOwnership(self._make_pending, on_call)
        self.securing = TlsHandshakeHandler(self.hub, self.closing, tls, self._submit_handshake, self.post)
        self.conversation = ConnectionHandler(
            self.hub,
            self.closing,
            ProxyProtocolHandler(self.hub, self.closing, HANDSHAKE if tls is None else SECURING, config.proxy_protocol),
            self.securing,
            self.current,
            self._submit,
            self._submit_job,
            self._submit_login,
            self._has_spare,
            self._make_pending,
            self.post,
        )

    # From any thread

    def post(self, command: Callable[[], None]) -> None:
        """Has the leader run a command, soon and in order."""
        self._commands.append(command)
        if self._polling:
            self._waker.wake()

    def wake(self) -> None:
        """Makes the leader look around."""
        self._waker.wake()

    def settle(self, pending: PendingCall, sent: SendResult) -> None:
        """A call of the pool has been answered. Leader only: others post it."""
        self.conversation.answered(pending, sent)

    def pass_on(self, pending: PendingCall, call: Call) -> None:
        """A call of the pool has ended in another call. Leader only: others post it."""
        if pending.give_up():
            self.conversation.passed_on(pending, call)

    # The leader

    def lead(self, until: Callable[[], bool] | None = None) -> bool | None:
        """Leads until the loop is ended, the lead is lost to another worker, or `until` says so.

        Returns:
            True where the loop has ended, so that nobody leads any more; False where `until` said so and the caller
            still has the lead; None where somebody else has it.
        """
        while not self._ended:
            if until is not None and until():
                return False
            try:
                self._turn(math.inf if until is None else _TEMPORARY_PATIENCE)
            except OwnershipLost:
                return None
            except Exception:
                logger.exception("a turn of the loop failed; going on")
        return True

    def _turn(self, patience: float) -> None:
        hub = self.hub
        commands = self._commands
        while commands:
            self._guarded(commands.popleft())
        if self._ended:
            return
        self._polling = True
        # A command may have come before `_polling` was set.
        timeout = 0.0 if commands or hub.unread else hub.timeout()
        if timeout is None or timeout > patience:
            timeout = None if patience == math.inf else patience
        try:
            events = hub.poller.poll(timeout)
        finally:
            self._polling = False
        hub.now = self.clock()
        by_fd = hub.by_fd
        ready = self.conversation.ready
        for fd, mask in events:
            connection = by_fd.get(fd)
            if connection is not None:
                ready(connection, mask)
            elif fd == self._waker.fd:
                self._waker.drain()
        for _ in range(len(hub.unread)):
            connection = hub.unread.popleft()  # one at a time: this thread may lose the lead to any of them
            if connection.interest & READ and connection.has_more:
                ready(connection, READ)
        for at, due in hub.timers.due(hub.now):
            self.conversation.on_timer(due, at)
        while hub.calls:
            pending, at = next(iter(hub.calls.items()))
            if at > hub.now:
                break
            self._expire(pending)

    def _expire(self, pending: PendingCall) -> None:
        """Answers a call whose time is over; its worker may have done so just now, and its report be on the way."""
        self._pool.forget(pending.run)
        self.hub.calls.move_to_end(pending)
        self.hub.calls[pending] = self.hub.now + self.limits.calls.call_timeout
        connection, serial = pending.connection, pending.serial
        if serial:
            connection.backlog = None
        pending.expire()
        if serial:  # the next message may not overtake this one, which may never end
            self.closing.begin(connection, 1011, limit_reached(self.limits, "call_timeout"))

    def _guarded(self, command: Callable[[], None]) -> None:
        try:
            command()
        except Exception:
            logger.exception("a command to the loop failed")

    def take_over(self, call: Call) -> bool:
        """Takes the lead from a worker that a call keeps; True where the caller leads now and must pass it on."""
        taken = self.current.take(call)
        if taken is None:
            return False
        work, pending = taken
        self.conversation.taken_over(work, pending)
        self.post(lambda: self.conversation.resume(work[0]))
        return True

    def worker_free(self) -> None:
        """A worker has nothing to do: it can take the lead, should that be wanted."""
        if self.conversation.restricted:
            self._waker.wake()

    def restrict(self, restricted: bool) -> None:
        """Says whether the leader may run calls that could keep it."""
        self.conversation.restricted = restricted

    def end(self) -> None:
        """Closes all connections, and ends the loop after this turn. Leader only."""
        self.closing.drop_all()
        self._ended = True

    def close(self) -> None:
        """Gives the descriptors back, after the leader has ended."""
        self.hub.poller.close()
        self._waker.close()

    def _submit(self, pending: PendingCall) -> bool:
        if not pending.is_login:
            return self._pool.submit(pending.run, self._pool.calls)
        connection = pending.connection
        return self._submit_login(connection, connection.session, pending.run, lambda: self._displaced(pending))

    def _submit_login(self, connection: Connection, session: Any, job: Job, displaced: Job) -> bool:
        rank = self.hub.service.standing(session)
        return self._pool.submit(QueuedJob(job, rank, network_of(session.address[0]), displaced), self._pool.logins)

    def _submit_job(self, job: Job) -> bool:
        return self._pool.submit(job, self._pool.calls)

    def _displaced(self, pending: PendingCall) -> None:
        pending.finish(pending.refusal(f"the queue is full; {limit_reached(self.limits, 'login_queue')}"))

    def _submit_handshake(self, job: Job) -> bool:
        return self._pool.submit(job, self._pool.handshakes)

    def _has_spare(self) -> bool:
        return self._pool.free > 0

    def _make_pending(self, connection: Connection, call: Call) -> PendingCall:
        return PendingCall(self, connection, call)
