"""Answer `waitfornewblock` and its like from the gateway's own log: the node never receives them.

A Dilithion node answers no other call while it executes one of these. Here no thread waits: each caller gets a future,
and one thread polls whether the tip has changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Annotated, Any, NamedTuple

import msgspec

from .. import CallContext, RpcError, RpcTable
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["BlockWaiters", "Tip"]

logger = logging.getLogger("dilithion_ws.gateway")

_MAX_TIMEOUT_MS = 300_000
_DEFAULT_TIMEOUT_MS = 30_000
_DEADLINE_MARGIN = 0.5
"""Seconds before a call's deadline at which it is answered with the present tip."""
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


class BlockWaiters:
    """The calls that wait for a block.

    Args:
        tip: returns the present tip, or None if there is none yet.
        clock: seconds that never go backwards.
    """

    def __init__(self, tip: Callable[[], Tip | None], clock: Callable[[], float]) -> None:
        self._tip = tip
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._waiters: list[_BlockWaiter] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-waits", daemon=True)

    def __len__(self) -> int:
        return len(self._waiters)

    def register(self, rpc: RpcTable) -> None:
        """Register the three methods."""
        for function in (self.waitfornewblock, self.waitforblock, self.waitforblockheight):
            rpc.register(function.__name__, function, permission="READ_BLOCKCHAIN", blocking=False)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answer all waiting calls with the present tip, and stop the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(5.0)

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
        with self._changed:
            if self._stopping:
                return _answer(tip)
            self._waiters.append(_BlockWaiter(future, is_satisfied, until))
            self._changed.notify_all()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiters or self._stopping)
                self._changed.wait_for(lambda: self._stopping, _POLL_SECONDS)
            try:
                self._answer_all()
            except Exception:
                logger.exception("answering calls that wait for a block failed; going on")
            if self._stopping:
                return

    def _answer_all(self) -> None:
        """Answer the calls whose condition is true or whose time is over; drop those that were cancelled."""
        tip, now = self._tip(), self._clock()
        done: list[_BlockWaiter] = []
        waiting: list[_BlockWaiter] = []
        with self._changed:
            for waiter in self._waiters:
                is_over = self._stopping or waiter.future.done() or now >= waiter.until
                (done if is_over or (tip is not None and waiter.is_satisfied(tip)) else waiting).append(waiter)
            self._waiters = waiting
        for waiter in done:
            if not waiter.future.set_running_or_notify_cancel():
                continue  # its call has timed out
            if tip is None:
                waiter.future.set_exception(_no_tip())
            else:
                waiter.future.set_result(_answer(tip))


def _answer(tip: Tip) -> dict[str, Any]:
    return {"hash": tip.hash, "height": tip.height}


def _no_tip() -> RpcError:
    return UpstreamError(UpstreamErrorKind.UNKNOWN)
