"""Lets a thread wait for the answer to its call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..util.clock import Deadline
from ..util.thread_contracts import any_thread
from .exceptions import CallTimeoutError

__all__ = ["AwaitedReply", "RefusedBatch", "Reply", "to_params"]

Reply = Callable[[Any, BaseException | None], None]
"""Gets the result or the error, in the client's reading thread, so it must be fast."""


class AwaitedReply:
    """Waits for one answer."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None

    @any_thread
    def reply(self, result: Any, error: BaseException | None) -> None:
        self._result, self._error = result, error
        self._there.set()

    @any_thread
    def wait(self, deadline: Deadline, what: str) -> Any:
        if not self._there.wait(deadline.remaining()):
            raise CallTimeoutError(f"no answer to {what} in time")
        if self._error is not None:
            raise self._error
        return self._result


class RefusedBatch:
    """Answers all calls of a batch with the error that the server returned for the whole batch."""

    def __init__(self, waiters: list[AwaitedReply]) -> None:
        self._waiters = waiters
        self.error: BaseException | None = None

    @any_thread
    def reply(self, result: Any, error: BaseException | None) -> None:
        self.error = error
        for waiter in self._waiters:
            waiter.reply(None, error)


def to_params(params: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return params as they are sent. Raise TypeError if some are given by position and some by name."""
    if params and named:
        raise TypeError("params are given by position or by name, not both")
    return named or list(params)
