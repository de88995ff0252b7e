"""Commands from other threads to the leading thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..util.thread_contracts import any_thread, owner_only
from .poller import Waker

__all__ = ["Command", "Mailbox"]

Command = Callable[[Any], None]
"""A function of the `ConnectionHandler`, which the leading thread calls."""


class Mailbox:
    """A queue of commands, which the event loop executes between two polls, in the order in which they were posted.

    Attributes:
        commands: what was posted, for the leading thread.
        waker: wakes the poller; the event loop polls its descriptor.
        is_polling: whether the leader is about to block, so that a command must wake it. The leader sets it before it
            looks for commands the last time: a command that is posted later sees it.
    """

    __slots__ = ("commands", "is_polling", "waker")

    def __init__(self) -> None:
        self.waker = Waker()
        self.is_polling = False
        self.commands: deque[Command] = deque()

    @any_thread
    def post(self, command: Command) -> None:
        """Execute a command in the leading thread, soon."""
        self.commands.append(command)
        if self.is_polling:
            self.waker.wake()

    @owner_only
    def close(self) -> None:
        """Close the descriptors of the waker."""
        self.waker.close()
