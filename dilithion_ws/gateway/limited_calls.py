"""Calls that wait while the node limits their rate, or its queue is full: they leave together.

The Dilithion node lets one client make ten requests at once and one a second after that, whatever a request has in it.
All clients of a gateway are one client to it. No thread waits for these calls: each caller gets a future.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, NamedTuple

from .. import RpcError
from ..util.clock import Clock, Deadline
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import any_thread, owner_only
from .node_client import NodeClient
from .shared_reads import SharedReads
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["NOT_NOW", "LimitedCall", "LimitedCalls"]

logger = logging.getLogger("dilithion_ws.gateway")


class _Seconds(NamedTuple):
    """How long calls wait: the first time, and from one batch to the next."""

    first: float
    between: float


NOT_NOW = {
    UpstreamErrorKind.LIMITED: _Seconds(1.0, 2.0),  # what a batch costs of the node's rate
    UpstreamErrorKind.BUSY: _Seconds(0.1, 0.25),  # its queue is full, and will not be for long
}
"""Errors of calls that were not executed, and will be accepted later."""

_BATCH_SECONDS = NOT_NOW[UpstreamErrorKind.LIMITED].between


class LimitedCall(NamedTuple):
    """A call that has not been made. `node` is the one that is meant: calls about wallets may be of one node only."""

    node: NodeClient
    method: str
    params: bytes
    wallet: str | None
    deadline: Deadline


class _Entry(NamedTuple):
    call: LimitedCall
    future: Future[Any]


class LimitedCalls:
    """The calls that wait.

    Args:
        reads: learns of them, since they may change something.
        clock: seconds that never go backwards.
        most: calls that may wait.
    """

    def __init__(self, reads: SharedReads, clock: Clock, most: int) -> None:
        self._reads = reads
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()  # guards the four below
        self._is_stopped = False
        self._entries: deque[_Entry] = deque()
        self._until = 0.0
        self._between = _BATCH_SECONDS
        self._thread = RepeatingThread("dilithion-ws-gateway-limited", lambda is_woken: self.step(), logger)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_waiting(self) -> bool:
        """Whether a call made now would only be refused, or overtake others."""
        return bool(self._entries) or self._until > self._clock()

    @any_thread
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @any_thread
    def stop(self, timeout: float) -> None:
        """Stop the thread, and end the calls that wait."""
        self._thread.stop(timeout)
        with self._lock:
            self._is_stopped = True
            entries, self._entries = self._entries, deque()
        for entry in entries:
            _fail(entry, UpstreamError(UpstreamErrorKind.LIMITED))

    @any_thread
    def enter(self, call: LimitedCall, retry_after: float = 0.0) -> Future[Any]:
        """Make a call once the node accepts it.

        Args:
            call: what to call.
            retry_after: seconds for which the node wants no further request.

        Raises:
            UpstreamError: there is no place, or no time, to wait.
        """
        with self._lock:
            if self._is_stopped:
                raise UpstreamError(UpstreamErrorKind.LIMITED)
            if not self._entries:
                self._between = 2 * retry_after
            self._until = max(self._until, self._clock() + retry_after)
            wait = self._until - self._clock()
            if len(self._entries) >= self._most or call.deadline.remaining() <= wait:
                detail = f"{self._most} calls wait (rpcgatewaylimitedcalls)" if len(self._entries) >= self._most else ""
                raise UpstreamError(UpstreamErrorKind.LIMITED, detail, max(wait, _BATCH_SECONDS))
            entry = _Entry(call, Future())
            self._entries.append(entry)
        self._thread.wake()
        return entry.future

    @owner_only
    def step(self) -> Pause:
        """Make the calls that wait, if it is time. Return the pause until the next step."""
        with self._lock:
            wait = self._until - self._clock()
            if not self._entries:
                return Pause(0.0, math.inf)
            if wait > 0:
                return Pause(wait, wait)
            entries = self._take()
        if entries:
            self._send(entries)
        return Pause(0.0, 0.0)

    def _take(self) -> list[_Entry]:
        """Remove from the queue, and return, calls that fit into one batch. The lock is held."""
        taken: list[_Entry] = []
        most = 1
        kept: deque[_Entry] = deque()
        for entry in self._entries:
            if entry.future.done() or entry.call.deadline.expired:
                continue  # its client has the error for its deadline
            if not taken:
                dialect = entry.call.node.dialect
                most = 1 if dialect is None else dialect.max_batch
            fits = len(taken) < most and (not taken or _go_together(taken[0].call, entry.call))
            (taken if fits else kept).append(entry)
        self._entries = kept
        return taken

    def _send(self, entries: list[_Entry]) -> None:
        calls = [(entry.call.method, entry.call.params) for entry in entries]
        timeout = max(entry.call.deadline.remaining() for entry in entries)
        wallet = entries[0].call.wallet
        node = entries[0].call.node
        outcomes = self._reads.write(lambda: node.batch(calls, timeout, wallet))
        # A batch that is too large leaves in several requests, of which the node may have executed the first ones.
        again = [entry for entry, outcome in zip(entries, outcomes, strict=True) if _is_not_now(outcome)]
        with self._lock:
            is_stopped = self._is_stopped
            if not is_stopped:
                self._entries.extendleft(reversed(again))
            refusal = next((outcome for outcome in outcomes if _is_not_now(outcome)), None)
            if refusal is not None:
                self._between = NOT_NOW[refusal.kind].between
            self._until = self._clock() + self._between
        for entry, outcome in zip(entries, outcomes, strict=True):
            if _is_not_now(outcome) and not is_stopped:
                continue
            if isinstance(outcome, RpcError):
                _fail(entry, outcome)
            elif entry.future.set_running_or_notify_cancel():
                entry.future.set_result(outcome)


def _go_together(first: LimitedCall, other: LimitedCall) -> bool:
    return first.wallet == other.wallet and first.node is other.node


def _is_not_now(outcome: Any) -> bool:
    return isinstance(outcome, UpstreamError) and outcome.kind in NOT_NOW


def _fail(entry: _Entry, error: RpcError) -> None:
    if entry.future.set_running_or_notify_cancel():
        entry.future.set_exception(error)
