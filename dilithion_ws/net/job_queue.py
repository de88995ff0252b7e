"""Jobs that wait for a worker: a bounded queue in which the better ranks go first, and no group keeps others out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["JobQueue", "QueuedJob"]

RANKS = 3


class QueuedJob(NamedTuple):
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


class JobQueue:
    """Not thread-safe: its owner locks.

    Args:
        most: jobs that may wait.
        most_of_group: how many a group keeps when the line is full and others come.
    """

    __slots__ = ("_by_rank", "_groups", "_most", "_most_of_group")

    def __init__(self, most: int, most_of_group: int | None = None) -> None:
        self._most = most
        self._most_of_group = most if most_of_group is None else most_of_group
        self._by_rank: tuple[deque[QueuedJob], ...] = tuple(deque() for _ in range(RANKS))
        self._groups: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._by_rank))

    def put(self, waiting: QueuedJob) -> QueuedJob | None:
        """Lets a job wait; returns the one that can't: this one, or one that it displaced. None where all can."""
        out = None
        if len(self) >= self._most:
            out = self._worse_than(waiting) or self._excess(waiting.group)
            if out is None:
                return waiting
            self._by_rank[out.rank].remove(out)
            self._left(out)
        self._by_rank[waiting.rank].append(waiting)
        if waiting.group is not None:
            self._groups[waiting.group] += 1
        return out

    def _worse_than(self, waiting: QueuedJob) -> QueuedJob | None:
        """Who came last of the worst rank below this one: he has waited least."""
        worse = next((line for line in self._by_rank[: waiting.rank] if line), None)
        return worse[-1] if worse else None

    def _excess(self, group: Hashable) -> QueuedJob | None:
        """Who came last of the largest group, where that has more than its share and this one less."""
        if group is None or not self._groups or self._groups[group] >= self._most_of_group:
            return None
        largest, count = self._groups.most_common(1)[0]
        if count <= self._most_of_group:
            return None
        return next(one for line in self._by_rank for one in reversed(line) if one.group == largest)

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

    def _left(self, waiting: QueuedJob) -> None:
        if waiting.group is not None:
            self._groups[waiting.group] -= 1
            if not self._groups[waiting.group]:
                del self._groups[waiting.group]
