"""Threads that replay the host's chain to clients, one for each topic of which the host has a history."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..events.replayer import Replayer
from ..util.clock import Deadline
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import owner_only

__all__ = ["HistoryThreads"]

logger = logging.getLogger("dilithion_ws.events")


class HistoryThreads:
    """Steps the replayers of one running server.

    Args:
        replayers: what they step.
    """

    def __init__(self, replayers: Iterable[Replayer]) -> None:
        self._threads = [self._make(replayer) for replayer in replayers]

    def _make(self, replayer: Replayer) -> RepeatingThread:
        def step(is_woken: bool) -> Pause:
            with replayer.step_lock:  # a thread of an earlier run of the server may still be in its last step
                return replayer.step()

        thread = RepeatingThread("dilithion-ws-history", step, logger)
        replayer.wake = thread.wake
        return thread

    @owner_only
    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @owner_only
    def stop(self, deadline: Deadline) -> None:
        """Stop the threads. One whose host does not return is left behind at the deadline."""
        for thread in self._threads:
            thread.stop(deadline.remaining())
