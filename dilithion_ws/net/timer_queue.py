"""Moments at which something is due: a heap, used by the leading worker alone."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["TimerQueue"]

T = TypeVar("T")


class TimerQueue(Generic[T]):
    """Items in the order of their moments. Not thread-safe: the leader owns it.

    There is no cancelling: whoever takes out an item that has become pointless finds out by itself. That keeps an entry
    to one tuple, which counts with one entry a connection.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, at: float, item: T) -> None:
        """Makes an item due once the clock has reached `at`."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, item))

    def timeout(self, now: float) -> float | None:
        """Seconds until the next moment, None where there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def due(self, now: float) -> Iterator[tuple[float, T]]:
        """Takes out what is due, each with its moment. Items may be added meanwhile."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, item = heapq.heappop(heap)
            yield at, item
