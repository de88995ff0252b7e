"""Finds the live subscriptions to `transactions` that an event concerns. No thread and no clock."""

from __future__ import annotations

from collections.abc import Iterable

from .follow_task import FollowTask

__all__ = ["FollowIndex"]


class FollowIndex:
    """Subscriptions by what they follow. Not thread-safe: one thread owns it.

    Attributes:
        counting: those with confirmations to come.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, set[FollowTask]] = {}
        self.counting: set[FollowTask] = set()

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, task: FollowTask) -> None:
        """Add a subscription."""
        for key in task.follow.keys.all():
            self._by_key.setdefault(key, set()).add(task)
        self.count(task)

    def count(self, task: FollowTask) -> None:
        """Note whether a subscription has confirmations to come."""
        (self.counting.add if task.follow.recent else self.counting.discard)(task)

    def remove(self, task: FollowTask) -> None:
        """Remove a subscription."""
        self.counting.discard(task)
        for key in task.follow.keys.all():
            found = self._by_key.get(key, set())
            found.discard(task)
            if not found:
                self._by_key.pop(key, None)

    def concerned(self, keys: Iterable[str]) -> dict[FollowTask, None]:
        """Return the subscriptions to any of these ids and addresses, in a fixed order."""
        return {task: None for key in keys for task in self._by_key.get(key, ())}
