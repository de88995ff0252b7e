"""Threads that deliver events and broadcasts: each steps its shards whenever they have something to do."""

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
    """What is stepped. See `events.shard.Shard` and `BroadcastShard`.

    Attributes:
        wake: set when there is something to do.
        step_lock: held while it is stepped.
    """

    wake: WakeFlag
    step_lock: threading.Lock

    def step(self) -> bool:
        """Do a part of the work. Return whether there is more."""


class DeliveryThreads:
    """Dedicated threads of the pool.

    Args:
        pool: has the threads.
        shards: what each thread steps; all shards of one thread have the same `wake`.
    """

    def __init__(self, pool: WorkerPool, shards: Sequence[Sequence[DeliveryShard]]) -> None:
        self._pool = pool
        self._shards = shards
        self._stopping = False

    def start(self) -> None:
        """Start to deliver events, also those that were published earlier."""
        for shards in self._shards:
            shards[0].wake.set()
            self._pool.run_dedicated(lambda shards=shards: self._run(shards))  # type: ignore[misc]

    def stop(self) -> None:
        """End the threads after their present step."""
        self._stopping = True
        for shards in self._shards:
            shards[0].wake.set()

    def _run(self, shards: Sequence[DeliveryShard]) -> None:
        while not self._stopping:
            shards[0].wake.wait(None)
            more = True
            while more and not self._stopping:
                outcomes = [_step(shard) for shard in shards]
                more = any(outcomes)


def _step(shard: DeliveryShard) -> bool:
    """Step a shard. Return whether there is more to do. After a fault it waits until it is woken again."""
    try:
        with shard.step_lock:  # a thread of an earlier run of the server may still be in its last step
            return shard.step()
    except Exception:
        logger.exception("a step of delivering events failed; going on")
        return False
