"""One method, and what is known of its calls."""

from __future__ import annotations

import inspect
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from .duration_histogram import BOUNDS, DurationHistogram
from .params import ParamsBinder

__all__ = ["Method", "Speed"]

_MOST_CODES = 64


class Speed:
    """How a method is run; the server compares these, lower is safer to run in the leading thread."""

    DECLARED_FAST = 0
    SEEN_FAST = 1
    UNKNOWN = 2
    SLOW = 3


class Method:
    """One registered method.

    Attributes:
        name: as clients call it.
        function: the handler.
        permission: what a caller must be allowed; None where nothing was declared.
        blocking: True: always run in the pool; False: always in the leading thread; None: as its running mean says.
        summary: one line for people; the first line of the docstring where none was given.
        description: the whole docstring, where nothing else was given.
        binder: from params to arguments.
        mean: seconds that its recent calls took, an exponential mean over about eight of them.
        pace: what follows from `blocking` and `mean`, see `Speed`.
        need: the rights that a call needs, once somebody has worked them out from name and permission; -1 before.
        is_login: whether its calls check passwords, and so wait in a queue of their own.
        batch: what runs all calls of a batch that have the same one, see `rpc.fallback.RawBatchHandler`; None for none.
        times: how long its calls took.
        succeeded: how many of them had a result.
        errors: how many of them failed, by code.
        position_of: the topic whose position its answers are stamped with, None for none.
    """

    __slots__ = (
        "batch",
        "binder",
        "blocking",
        "description",
        "errors",
        "function",
        "is_login",
        "mean",
        "name",
        "need",
        "pace",
        "permission",
        "position_of",
        "succeeded",
        "summary",
        "times",
    )

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        permission: str | None,
        blocking: bool | None,
        summary: str,
        position_of: str | None = None,
        binder: Any = None,
        description: str | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.permission = permission
        self.blocking = blocking
        self.summary = summary
        self.description = (inspect.getdoc(function) or "") if description is None else description
        self.binder = ParamsBinder(name, function) if binder is None else binder
        self.mean = 0.0
        self.need = -1
        self.is_login = False
        self.batch: Any = None
        self.position_of = position_of
        self.times = DurationHistogram()
        self.succeeded = 0
        self.errors: dict[int, int] = {}
        self.pace = {None: Speed.UNKNOWN, True: Speed.SLOW, False: Speed.DECLARED_FAST}[blocking]

    def took(self, seconds: float, slow_after: float) -> None:
        """Notes the duration of one call. Threads may race here: a mean may lose a sample, which does no harm."""
        times = self.times
        times.total += seconds
        times.counts[bisect_left(BOUNDS, seconds)] += 1
        self.mean = mean = self.mean + (seconds - self.mean) * 0.125
        if mean > slow_after:
            if self.blocking is None:
                self.pace = Speed.SLOW
        elif self.pace > Speed.SEEN_FAST and mean <= slow_after / 2 and self.blocking is None:
            self.pace = Speed.SEEN_FAST

    def stalled(self, slow_after: float) -> None:
        """Notes that a call is taking so long that it is known to be slow before it has ended."""
        self.mean = max(self.mean, 8 * slow_after)
        self.pace = Speed.SLOW
        if self.blocking is False:
            self.blocking = None  # the host was mistaken: it is measured from now on

    def failed(self, code: int) -> None:
        """Counts a call that ended with an error; codes beyond the first few, which a host may invent, as 0."""
        known = code in self.errors or len(self.errors) < _MOST_CODES
        code = code if known else 0
        self.errors[code] = self.errors.get(code, 0) + 1

    def __repr__(self) -> str:
        return f"<Method {self.binder.signature}>"
