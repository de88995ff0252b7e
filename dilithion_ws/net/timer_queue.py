"""A priority queue of times."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

__all__ = ["Scheduled", "TimerQueue"]


class Scheduled(Protocol):
    """An item that knows its present timer.

    Attributes:
        timer_at: the time of it, or 0 if there is none.
    """

    timer_at: float


T = TypeVar("T")
S = TypeVar("S", bound=Scheduled)


class TimerQueue(Generic[T]):
    """Items in the order of their times. For the leading thread only.

    Timers are not cancelled: the receiver of an item must recognise that it is obsolete. This keeps an entry to one
    tuple, which matters with one entry for each connection. The owner prunes obsolete items once they are many.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, item: T) -> None:
        """Make an item due when the clock has reached `at`."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, item))

    def prune(self: TimerQueue[S]) -> None:
        """Drop the timers that are not the present ones of their items."""
        heap = self._heap
        heap[:] = [entry for entry in heap if entry[0] == entry[2].timer_at]  # in place, since `pop_due` reads it
        heapq.heapify(heap)

    def timeout(self, now: float) -> float | None:
        """Return the seconds until the next item is due, or None if there is none."""
        if not self._heap:
            return None
        at, _, _ = self._heap[0]
        return max(0.0, at - now)

    def pop_due(self, now: float) -> Iterator[tuple[float, T]]:
        """Remove and yield the items that are due, each with its time. Items may be added meanwhile."""
        heap = self._heap
        while heap:
            at, _, item = heap[0]
            if at > now:
                return
            heapq.heappop(heap)
            yield at, item
