"""`waitfornewblock` and its like, answered from the gateway's own log: the node never hears of them.

A Dilithion node serves nobody while one of these calls waits in it. Here no thread waits: each caller has an answer that
comes later, and one thread looks whether the tip has changed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec

from .. import CallContext, Later, RpcError, RpcTable
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["Tip", "BlockWaiters"]

logger = logging.getLogger("dilithion_ws.gateway")

_MOST_MS = 300_000
_DEFAULT_MS = 30_000
_MARGIN = 0.5
"""Seconds before a call's deadline at which it is answered with the tip as it is."""
_LOOK_SECONDS = 0.05
"""Between two looks at the log while somebody waits: another gateway may have written to it."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0)]


class Tip(NamedTuple):
    """The last block that was told."""

    height: int
    hash: str


class _BlockWaiter(NamedTuple):
    later: Later
    satisfied: Callable[[Tip], bool]
    until: float


class BlockWaiters:
    """Who waits for a block.

    Args:
        tip: the tip now; None where there is none yet.
        clock: seconds that never go backwards.
    """

    def __init__(self, tip: Callable[[], Tip | None], clock: Callable[[], float]) -> None:
        self._tip = tip
        self._clock = clock
        self._changed = threading.Condition()  # guards all below
        self._waiting: list[_BlockWaiter] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-waits", daemon=True)

    def register(self, rpc: RpcTable) -> None:
        """Registers the three methods."""
        for function in (self.waitfornewblock, self.waitforblock, self.waitforblockheight):
            rpc.register(function.__name__, function, permission="READ_BLOCKCHAIN", blocking=False)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Answers all who wait with the tip as it is, and ends."""
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
        now = current_tip or self._known().hash
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

    def _known(self) -> Tip:
        tip = self._tip()
        if tip is None:
            raise UpstreamError(UpstreamErrorKind.UNKNOWN)
        return tip

    def _wait(
        self, context: CallContext, satisfied: Callable[[Tip], bool], timeout: int | None, timeout_ms: int | None
    ) -> Any:
        tip = self._known()
        if satisfied(tip):
            return _answer(tip)
        milliseconds = next((one for one in (timeout, timeout_ms) if one), _DEFAULT_MS)
        seconds = min(milliseconds, _MOST_MS) / 1000
        until = self._clock() + max(0.0, min(seconds, context.deadline.remaining() - _MARGIN))
        later = context.later()
        with self._changed:
            if self._stopping:
                return _answer(tip)
            self._waiting.append(_BlockWaiter(later, satisfied, until))
            self._changed.notify_all()
        return later

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                self._changed.wait_for(lambda: self._stopping, _LOOK_SECONDS)
            try:
                self._answer_all()
            except Exception:
                logger.exception("answering those who wait for a block failed; going on")
            if self._stopping:
                return

    def _answer_all(self) -> None:
        tip, now = self._tip(), self._clock()
        done: list[_BlockWaiter] = []
        waiting: list[_BlockWaiter] = []
        with self._changed:
            for one in self._waiting:
                over = self._stopping or one.later.done or now >= one.until
                (done if over or (tip is not None and one.satisfied(tip)) else waiting).append(one)
            self._waiting = waiting
        for one in done:
            one.later.answer(_answer(tip) if tip is not None else _gone())


def _answer(tip: Tip) -> dict[str, Any]:
    return {"hash": tip.hash, "height": tip.height}


def _gone() -> RpcError:
    return UpstreamError(UpstreamErrorKind.UNKNOWN)
