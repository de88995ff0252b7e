"""The deadlines of calls that are not answered yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pending_call import PendingCall

__all__ = ["CallDeadlines"]


class CallDeadlines:
    """Pending calls by deadline. Each operation costs the same, however many calls there are.

    Calls with the same timeout become due in the order in which they were added, and there are few different timeouts: so
    one queue for each of them is sorted by itself.

    Attributes:
        timeouts: of each call, in seconds. The event loop looks in every turn whether it is empty, which costs a call if
            it asks this object.
    """

    def __init__(self) -> None:
        self._queues: dict[float, OrderedDict[PendingCall, float]] = {}
        self.timeouts: dict[PendingCall, float] = {}

    def __bool__(self) -> bool:
        return bool(self.timeouts)

    def __len__(self) -> int:
        return len(self.timeouts)

    def __contains__(self, pending: PendingCall) -> bool:
        return pending in self.timeouts

    def __iter__(self) -> Iterator[PendingCall]:
        return iter(list(self.timeouts))

    def set(self, pending: PendingCall, now: float, timeout: float) -> None:
        """Make a call due after `timeout` seconds from now, in place of an earlier deadline."""
        if pending in self.timeouts:
            self.remove(pending)
        self.timeouts[pending] = timeout
        self._queues.setdefault(timeout, OrderedDict())[pending] = now + timeout

    def remove(self, pending: PendingCall) -> None:
        """Forget a call. Raises KeyError if it is unknown."""
        timeout = self.timeouts.pop(pending)
        queue = self._queues[timeout]
        del queue[pending]
        if not queue:
            del self._queues[timeout]

    def first(self) -> float:
        """Return the earliest deadline. There must be a call."""
        return min(next(iter(queue.values())) for queue in self._queues.values())

    def due(self, now: float) -> list[PendingCall]:
        """Return the calls whose deadline has passed. They are not removed."""
        found = []
        for queue in self._queues.values():
            for pending, deadline in queue.items():
                if deadline > now:
                    break
                found.append(pending)
        return found
