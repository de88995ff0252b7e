"""Threads that replay the host's chain to clients, one for each topic of which the host has a history."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..events.chain_feed import ChainFeed
from ..util.clock import Deadline
from ..util.repeating_thread import Pause, RepeatingThread
from ..util.thread_contracts import owner_only

__all__ = ["HistoryThreads"]

logger = logging.getLogger("dilithion_ws.events")


class HistoryThreads:
    """Steps the feeds of one running server.

    Args:
        feeds: what they step.
    """

    def __init__(self, feeds: Iterable[ChainFeed]) -> None:
        self._threads = [self._make(feed) for feed in feeds]

    def _make(self, feed: ChainFeed) -> RepeatingThread:
        def step(is_woken: bool) -> Pause:
            with feed.step_lock:  # a thread of an earlier run of the server may still be in its last step
                return feed.step()

        thread = RepeatingThread("dilithion-ws-history", step, logger)
        feed.wake = thread.wake
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
