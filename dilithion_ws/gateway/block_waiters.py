"""Answer `waitfornewblock` and its like from the gateway's own log: the node never receives them.

A Dilithion node answers no other call while it executes one of these. Here no thread waits: each caller gets a future,
and one thread checks whether the tip has changed.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Annotated, Any, NamedTuple

import msgspec

from .. import CallContext, RpcError, RpcTable
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import any_thread, owner_only
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["BlockWaiters", "Tip"]

logger = logging.getLogger("dilithion_ws.gateway")

_MAX_TIMEOUT_MS = 300_000
_DEFAULT_TIMEOUT_MS = 30_000
_DEADLINE_MARGIN = 0.5
"""Seconds before a call's deadline at which it is answered with the present tip."""
_TIMEOUT = _MAX_TIMEOUT_MS / 1000 + 2 * _DEADLINE_MARGIN
"""Seconds for a call: it waits as long as it asks for."""
_POLL_SECONDS = 0.05
"""Interval between two polls of the log while a caller waits: another gateway may have written to it."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class Tip(NamedTuple):
    """The latest published block."""

    height: int
    hash: str


class _BlockWaiter(NamedTuple):
    future: Future[Any]
    is_satisfied: Callable[[Tip], bool]
    until: float
    answer: Callable[[Tip], Any]


class BlockWaiters:
    """The calls that wait for a block.

    Args:
        tip: returns the present tip, or None if there is none yet.
        clock: seconds that never go backwards.
    """

    def __init__(self, tip: Callable[[], Tip | None], clock: Callable[[], float]) -> None:
        self._tip = tip
        self._clock = clock
        self._lock = threading.Lock()  # guards the two below
        self._waiters: list[_BlockWaiter] = []
        self._is_stopping = False
        self._thread = RepeatingThread(
            "dilithion-ws-gateway-waits", lambda is_woken: self.step(), logger, _POLL_SECONDS
        )

    def __len__(self) -> int:
        return len(self._waiters)

    @any_thread
    def register(self, rpc: RpcTable) -> None:
        """Register the three methods."""
        for function in (self.waitfornewblock, self.waitforblock, self.waitforblockheight):
            rpc.register(function.__name__, function, permission="READ_BLOCKCHAIN", blocking=False, timeout=_TIMEOUT)

    @owner_only
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @owner_only
    def stop(self, timeout: float) -> None:
        """Answer all waiting calls with the present tip, and stop the thread, for which it waits `timeout` seconds."""
        with self._lock:
            self._is_stopping = True
        self._thread.stop(timeout)
        try:
            self.step()
        except Exception:
            logger.exception("answering the calls that wait for a block failed")

    @any_thread
    def waitfornewblock(
        self,
        context: CallContext,
        timeout: Milliseconds | None = None,
        current_tip: str = "",
        *,
        timeout_ms: Milliseconds | None = None,
    ) -> Any:
        """Wait for the tip to change; answers with the tip, also when the time is over"""
        now = current_tip or self._known_tip().hash
        return self._wait(context, lambda tip: tip.hash != now, timeout, timeout_ms)

    @any_thread
    def waitforblock(
        self,
        context: CallContext,
        blockhash: str = "",
        timeout: Milliseconds | None = None,
        *,
        hash: str = "",
        timeout_ms: Milliseconds | None = None,
    ) -> Any:
        """Wait for a block to become the tip; answers with the tip, also when the time is over"""
        wanted = blockhash or hash
        return self._wait(context, lambda tip: tip.hash == wanted, timeout, timeout_ms)

    @any_thread
    def waitforblockheight(
        self,
        context: CallContext,
        height: int,
        timeout: Milliseconds | None = None,
        *,
        timeout_ms: Milliseconds | None = None,
    ) -> Any:
        """Wait for the chain to reach a height; answers with the tip, also when the time is over"""
        return self._wait(context, lambda tip: tip.height >= height, timeout, timeout_ms)

    def _known_tip(self) -> Tip:
        tip = self._tip()
        if tip is None:
            raise UpstreamError(UpstreamErrorKind.UNKNOWN)
        return tip

    def _wait(
        self, context: CallContext, is_satisfied: Callable[[Tip], bool], timeout: int | None, timeout_ms: int | None
    ) -> Any:
        tip = self._known_tip()
        if is_satisfied(tip):
            return _answer(tip)
        milliseconds = next((value for value in (timeout, timeout_ms) if value), _DEFAULT_TIMEOUT_MS)
        seconds = min(milliseconds, _MAX_TIMEOUT_MS) / 1000
        until = self._clock() + max(0.0, min(seconds, context.deadline.remaining() - _DEADLINE_MARGIN))
        future: Future[Any] = Future()
        return future if self._add(_BlockWaiter(future, is_satisfied, until, _answer)) else _answer(tip)

    @any_thread
    def tip(self) -> Tip | None:
        """Return the present tip, or None if there is none yet."""
        return self._tip()

    @any_thread
    def wait(self, is_satisfied: Callable[[Tip], bool], seconds: float) -> Future[Tip]:
        """Return a future of the first tip that satisfies a condition, or of the tip after some seconds."""
        future: Future[Tip] = Future()
        if not self._add(_BlockWaiter(future, is_satisfied, self._clock() + seconds, lambda tip: tip)):
            future.set_exception(_no_tip())
        return future

    def _add(self, waiter: _BlockWaiter) -> bool:
        """Add a call that waits. Return False if the gateway stops."""
        with self._lock:
            if self._is_stopping:
                return False
            self._waiters.append(waiter)
        self._thread.wake()
        return True

    @any_thread
    def step(self) -> Pause:
        """Answer the calls whose condition is true or whose time is over. Drop those that were cancelled.

        Returns:
            The pause until the next step. Without a waiting call, it lasts until there is one.
        """
        tip, now = self._tip(), self._clock()
        done: list[_BlockWaiter] = []
        waiting: list[_BlockWaiter] = []
        with self._lock:
            for waiter in self._waiters:
                is_over = self._is_stopping or waiter.future.done() or now >= waiter.until
                (done if is_over or (tip is not None and waiter.is_satisfied(tip)) else waiting).append(waiter)
            self._waiters = waiting
        for waiter in done:
            if not waiter.future.set_running_or_notify_cancel():
                continue  # its call has timed out
            if tip is None:
                waiter.future.set_exception(_no_tip())
            else:
                waiter.future.set_result(waiter.answer(tip))
        return Pause(_POLL_SECONDS, _POLL_SECONDS if waiting else math.inf)


def _answer(tip: Tip) -> dict[str, Any]:
    return {"hash": tip.hash, "height": tip.height}


def _no_tip() -> RpcError:
    return UpstreamError(UpstreamErrorKind.UNKNOWN)
