"""Finds the live subscriptions to `transactions` that an event concerns. No thread and no clock."""

from __future__ import annotations

from collections.abc import Iterable

from .follow_task import FollowTask

__all__ = ["FollowIndex"]


class FollowIndex:
    """Subscriptions by what they follow, in the order in which they came. Not thread-safe: one thread owns it.

    Attributes:
        counting: those with confirmations to come.
    """

    def __init__(self) -> None:
        self._by_key: dict[str, dict[FollowTask, None]] = {}
        self.counting: dict[FollowTask, None] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, task: FollowTask) -> None:
        """Add a subscription."""
        for key in task.follow.keys.all():
            self._by_key.setdefault(key, {})[task] = None
        self.count(task)

    def count(self, task: FollowTask) -> None:
        """Note whether a subscription has confirmations to come."""
        if task.follow.recent:
            self.counting[task] = None
        else:
            self.counting.pop(task, None)

    def remove(self, task: FollowTask) -> None:
        """Remove a subscription."""
        self.counting.pop(task, None)
        for key in task.follow.keys.all():
            found = self._by_key.get(key, {})
            found.pop(task, None)
            if not found:
                self._by_key.pop(key, None)

    def concerned(self, keys: Iterable[str]) -> dict[FollowTask, None]:
        """Return the subscriptions to any of these ids and addresses, in a fixed order."""
        return {task: None for key in keys for task in self._by_key.get(key, ())}
