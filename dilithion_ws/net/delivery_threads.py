"""Threads of the pool that deliver: each steps one shard of the events whenever that has something to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from ..util.sync import WakeFlag
from .worker_pool import WorkerPool

__all__ = ["Steppable", "DeliveryThreads"]

logger = logging.getLogger("dilithion_ws.net")


class Steppable(Protocol):
    """What is stepped.

    Attributes:
        ring: to be called when there is something to do.
        stepping: held while it is stepped.
    """

    ring: Callable[[], None]
    stepping: threading.Lock

    def step(self) -> bool:
        """Does a piece of it; whether there is more."""


class DeliveryThreads:
    """Keeps one thread of the pool for each shard.

    Args:
        pool: has threads for them beside its workers.
        shards: what they step.
    """

    def __init__(self, pool: WorkerPool, shards: Sequence[Steppable]) -> None:
        self._pool = pool
        self._shards = shards
        self._bells = [WakeFlag() for _ in shards]
        self._stopping = False

    def start(self) -> None:
        """Starts delivering, what came before included."""
        for shard, bell in zip(self._shards, self._bells, strict=True):
            shard.ring = bell.ring
            bell.ring()
            self._pool.keep(lambda shard=shard, bell=bell: self._run(shard, bell))  # type: ignore[misc]

    def stop(self) -> None:
        """Has the threads end after the step that they are in."""
        self._stopping = True
        for bell in self._bells:
            bell.ring()

    def _run(self, shard: Steppable, bell: WakeFlag) -> None:
        while not self._stopping:
            bell.wait(None)
            try:
                more = True
                while more and not self._stopping:
                    with shard.stepping:  # a pump of an earlier run may still be in its last step
                        more = shard.step()
            except Exception:
                logger.exception("a step of delivering events failed; going on")
