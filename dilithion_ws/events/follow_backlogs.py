"""What clients that follow transactions have not accepted yet. No thread and no clock."""

from __future__ import annotations

from ..util.enums import OfferResult
from .follow_task import FollowTask

__all__ = ["Backlogs"]

SENT, BUFFERED, REJECTED, CLOSED = OfferResult


class _Backlog:
    """That of one client, for all of its subscriptions, and those of them that wait for it to read."""

    def __init__(self) -> None:
        self.frames: list[tuple[FollowTask, bytes]] = []
        self.size = 0
        self.paused: list[FollowTask] = []


class Backlogs:
    """Sends frames, and keeps in order what is not accepted. Not thread-safe: one thread owns it.

    Args:
        most: bytes that wait for one client at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_subscriber: dict[int, _Backlog] = {}  # of clients that do not accept data at the moment

    def __len__(self) -> int:
        return len(self._by_subscriber)

    def clear(self) -> None:
        """Forget everything."""
        self._by_subscriber.clear()

    def offer(self, task: FollowTask, data: bytes) -> bool:
        """Send a frame, or keep it behind the others. Return False if there is no room for it."""
        cursor = task.follow.cursor
        backlog = self._by_subscriber.get(cursor.subscriber.id)
        if backlog is None:
            result = cursor.subscriber.try_send(data, cursor)
            if result not in (BUFFERED, REJECTED):
                return True
            backlog = self._by_subscriber[cursor.subscriber.id] = _Backlog()
            if result is BUFFERED:
                return True
        if backlog.size + len(data) > self._most:
            return False
        backlog.frames.append((task, data))
        backlog.size += len(data)
        return True

    def pause(self, task: FollowTask) -> bool:
        """Let a subscription wait until its client accepts data. Return False if it does already."""
        backlog = self._by_subscriber.get(task.follow.cursor.subscriber.id)
        if backlog is not None:
            backlog.paused.append(task)
        return backlog is not None

    def take(self, subscriber_id: int) -> tuple[list[tuple[FollowTask, bytes]], list[FollowTask]]:
        """Remove what waits for a client. Return its frames, each with its subscription, and the paused subscriptions."""
        backlog = self._by_subscriber.pop(subscriber_id, None)
        return ([], []) if backlog is None else (backlog.frames, backlog.paused)
