"""Threads that deliver events: each steps one shard whenever that has something to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from ..util.sync import WakeFlag
from .worker_pool import WorkerPool

__all__ = ["DeliveryShard", "DeliveryThreads"]

logger = logging.getLogger("dilithion_ws.net")


class DeliveryShard(Protocol):
    """What is stepped. See `events.shard.Shard`.

    Attributes:
        wake: set when there is something to do.
        step_lock: held while it is stepped.
    """

    wake: WakeFlag
    step_lock: threading.Lock

    def step(self) -> bool:
        """Do a part of the work. Return whether there is more."""


class DeliveryThreads:
    """One dedicated thread of the pool for each shard.

    Args:
        pool: has the threads.
        shards: what they step.
    """

    def __init__(self, pool: WorkerPool, shards: Sequence[DeliveryShard]) -> None:
        self._pool = pool
        self._shards = shards
        self._stopping = False

    def start(self) -> None:
        """Start to deliver events, also those that were published earlier."""
        for shard in self._shards:
            shard.wake.set()
            self._pool.run_dedicated(lambda shard=shard: self._run(shard))  # type: ignore[misc]

    def stop(self) -> None:
        """End the threads after their present step."""
        self._stopping = True
        for shard in self._shards:
            shard.wake.set()

    def _run(self, shard: DeliveryShard) -> None:
        while not self._stopping:
            shard.wake.wait(None)
            try:
                more = True
                while more and not self._stopping:
                    with shard.step_lock:  # a thread of an earlier run of the server may still be in its last step
                        more = shard.step()
            except Exception:
                logger.exception("a step of delivering events failed; going on")
