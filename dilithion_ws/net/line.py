"""Jobs that wait for a worker: a bounded queue in which the better ranks go first and no group takes all places."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Line", "Waiting"]

RANKS = 3


class Waiting(NamedTuple):
    """A job in a line.

    Attributes:
        job: what to run.
        rank: 0 to 2; higher ones go first, and push lower ones out of a full line.
        group: whom it is for; None counts with nobody.
        displaced: called where a better one takes its place.
    """

    job: Callable[[], None]
    rank: int = 0
    group: Hashable = None
    displaced: Callable[[], None] = lambda: None


class Line:
    """Not thread-safe: its owner locks.

    Args:
        most: jobs that may wait.
        most_of_group: of which so many may be of one group.
    """

    __slots__ = ("_by_rank", "_groups", "_most", "_most_of_group")

    def __init__(self, most: int, most_of_group: int | None = None) -> None:
        self._most = most
        self._most_of_group = most if most_of_group is None else most_of_group
        self._by_rank: tuple[deque[Waiting], ...] = tuple(deque() for _ in range(RANKS))
        self._groups: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._by_rank))

    def put(self, waiting: Waiting) -> Waiting | None:
        """Lets a job wait; returns the one that can't: this one, or one that it displaced. None where all can."""
        group = waiting.group
        if group is not None and self._groups[group] >= self._most_of_group:
            return waiting
        out = None
        if len(self) >= self._most:
            worse = next((line for line in self._by_rank[: waiting.rank] if line), None)
            if worse is None:
                return waiting
            out = worse.pop()  # who came last has waited least
            self._left(out)
        self._by_rank[waiting.rank].append(waiting)
        if group is not None:
            self._groups[group] += 1
        return out

    def pop(self) -> Callable[[], None] | None:
        """Takes the job that is next; None where none waits."""
        for line in reversed(self._by_rank):
            if line:
                waiting = line.popleft()
                self._left(waiting)
                return waiting.job
        return None

    def remove(self, job: Callable[[], None]) -> None:
        """Takes a job out, if it is still there."""
        for line in self._by_rank:
            for waiting in line:
                if waiting.job == job:
                    line.remove(waiting)
                    self._left(waiting)
                    return

    def clear(self) -> None:
        """Takes all out."""
        for line in self._by_rank:
            line.clear()
        self._groups.clear()

    def _left(self, waiting: Waiting) -> None:
        if waiting.group is not None:
            self._groups[waiting.group] -= 1
            if not self._groups[waiting.group]:
                del self._groups[waiting.group]
