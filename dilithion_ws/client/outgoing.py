"""What a client sends without a caller that waits, and what it does later: both belong to one connection."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..util.clock import Clock
from .exceptions import ClientError
from .open_calls import OpenCalls, Reply

__all__ = ["Outgoing"]


class _Timer(NamedTuple):
    """Something to do at a reading of the clock, or something else if the connection is lost before that."""

    at: float
    number: int  # so that two are never equal
    action: Callable[[], None]
    otherwise: Callable[[], None]


def _do_nothing() -> None:
    pass


class Outgoing:
    """Not thread-safe.

    Args:
        clock: seconds that never go backwards.

    Attributes:
        calls: those that wait for their answers.
        is_connected: whether there is a connection.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls = OpenCalls()
        self.is_connected = False
        self._outbox: list[str] = []
        self._timers: list[_Timer] = []  # a heap
        self._timer_numbers = itertools.count()

    def send(self, method: str, params: Any, reply: Reply) -> None:
        """Make a call. `reply` gets its answer, or the loss of the connection."""
        self._outbox.append(self.calls.open(method, params, reply).text)

    def later(self, pause: float, action: Callable[[], None], otherwise: Callable[[], None] = _do_nothing) -> None:
        """Do something after a pause in seconds, or something else if the connection is lost before that."""
        heapq.heappush(self._timers, _Timer(self.clock() + pause, next(self._timer_numbers), action, otherwise))

    def forget_connection(self, reason: ClientError) -> None:
        """End all of it. Calls that wait for answers get the reason."""
        self.is_connected = False
        timers, self._timers = self._timers, []
        self.calls.lose_all(reason)
        for timer in timers:
            timer.otherwise()
        self._outbox.clear()

    def take_outbox(self) -> list[str]:
        """Return the texts to send over the present connection."""
        found, self._outbox = self._outbox, []
        return found

    @property
    def next_time(self) -> float | None:
        """The reading of the clock at which to call `on_time`, or None."""
        return self._timers[0].at if self._timers else None

    def on_time(self) -> None:
        """Do what is due."""
        while self._timers and self._timers[0].at <= self.clock():
            heapq.heappop(self._timers).action()
