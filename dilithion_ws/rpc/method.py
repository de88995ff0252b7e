"""One registered method, and what was measured of its calls."""

from __future__ import annotations

import inspect
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ..auth.permissions import METHODS, UNDECLARED, resolve_rights
from ..util.enums import Speed
from .context import CallContext
from .duration_histogram import BUCKET_BOUNDS, DurationHistogram
from .params import ParamsBinder

__all__ = ["Method", "MethodOptions", "RawBatchHandler", "RawHandler"]

RawHandler = Callable[[CallContext, bytes], Any]
"""Gets a call and its params as JSON (empty if it had none); returns the result or raises."""

RawBatchHandler = Callable[[Sequence[tuple[CallContext, bytes]]], Sequence[Any]]
"""Gets the calls of one batch; returns for each its result, or the exception that it fails with."""

_MAX_ERROR_CODES = 64
"""Error codes that are counted separately for each method; a host may invent any number of them."""

_KNOWN_AFTER = 8
"""Calls after which the mean duration of a method says something."""

_MEAN_WEIGHT = 0.125
"""Weight of the latest call in the running mean, which so covers about eight calls."""

_MOST_TIMES = 4
"""A sample counts for this many times the threshold at most, so that one hiccup does not make a method slow: the stall
and the duration of one call are two such samples, and two of them raise the mean to less than the threshold."""

DECLARED_FAST, MEASURED_FAST, UNKNOWN, SLOW = Speed


class Binder(Protocol):
    """Turns the params of a call into arguments. See `ParamsBinder`."""

    @property
    def parameters(self) -> list[inspect.Parameter]: ...

    @property
    def return_type(self) -> Any: ...

    @property
    def needs_context(self) -> bool: ...

    @property
    def signature(self) -> str: ...

    def bind(self, params: bytes, context: CallContext | None) -> tuple[tuple[Any, ...], dict[str, Any]]: ...


class MethodOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a method was registered.

    Attributes:
        permission: what a caller must be allowed, or None if nothing was declared.
        blocking: True to always run it in the pool, False to always run it in the leading thread, None to measure.
        summary: one line for people.
        description: longer text; default: the docstring.
        position_of: the topic whose position its answers carry, or None.
        is_login: whether its calls verify passwords; these wait in a queue of their own. It is public, too.
        is_public: whether every client may call it, whatever its rights.
        is_undeclared: whether only the role admin may call it, also if the table of the node's methods has its name.
        batch_handler: runs all calls of a batch whose methods have the same one, or None.
        timeout: seconds that a call may take, or None for the limit `call_timeout`.
        only_reads: whether a call changes nothing, so that it may be repeated; None if that is not known.
    """

    permission: str | None = None
    blocking: bool | None = None
    summary: str = ""
    description: str | None = None
    position_of: str | None = None
    is_login: bool = False
    is_public: bool = False
    is_undeclared: bool = False
    batch_handler: RawBatchHandler | None = None
    timeout: float | None = None
    only_reads: bool | None = None


class Method:
    """One registered method.

    Args:
        name: as clients call it.
        function: the handler.
        options: how it was registered.
        binder: turns params into arguments; default: by the type hints of the function.

    Attributes:
        required_rights: the rights that a caller needs; 0 for a public method.
        mean: running mean of the duration of its calls, in seconds.
        speed: what follows from `blocking` and `mean`.
        durations: how long its calls took.
        succeeded: calls that had a result.
        is_described: whether `rpc.discover` has it.
        errors: calls that failed, by error code.
    """

    __slots__ = (
        "batch_handler",
        "binder",
        "blocking",
        "description",
        "durations",
        "errors",
        "function",
        "is_described",
        "is_login",
        "mean",
        "name",
        "only_reads",
        "permission",
        "position_of",
        "required_rights",
        "speed",
        "succeeded",
        "summary",
        "timeout",
    )

    def __init__(
        self, name: str, function: Callable[..., Any], options: MethodOptions, binder: Binder | None = None
    ) -> None:
        self.name = name
        self.function = function
        self.permission = options.permission
        self.blocking = options.blocking
        self.summary = options.summary
        self.description = (inspect.getdoc(function) or "") if options.description is None else options.description
        self.position_of = options.position_of
        self.is_login = options.is_login
        self.batch_handler = options.batch_handler
        self.timeout = options.timeout
        self.only_reads = options.only_reads
        self.is_described = True
        self.binder: Binder = ParamsBinder(name, function) if binder is None else binder
        self.required_rights = (
            0
            if options.is_public or options.is_login
            else resolve_rights(
                options.permission, name, UNDECLARED if options.is_undeclared else METHODS.get(name, UNDECLARED)
            )
        )
        self.mean = 0.0
        self.durations = DurationHistogram()
        self.succeeded = 0
        self.errors: dict[int, int] = {}
        self.speed = {None: UNKNOWN, True: SLOW, False: DECLARED_FAST}[options.blocking]

    def record_duration(self, seconds: float, slow_method_threshold: float) -> None:
        """Record the duration of one call. Threads may race: a mean may lose a sample, which is acceptable."""
        durations = self.durations
        durations.total += seconds
        durations.counts[bisect_left(BUCKET_BOUNDS, seconds)] += 1
        if seconds > slow_method_threshold * _MOST_TIMES and self.speed is not UNKNOWN:
            seconds = slow_method_threshold * _MOST_TIMES
        self.mean = mean = self.mean + (seconds - self.mean) * _MEAN_WEIGHT
        if mean > slow_method_threshold:
            if self.blocking is None:
                self.speed = SLOW
        elif self.speed > MEASURED_FAST and mean <= slow_method_threshold / 2 and self.blocking is None:
            self.speed = MEASURED_FAST

    def record_stall(self, slow_method_threshold: float) -> None:
        """Record that a running call takes so long that it is known to be slow before it has ended.

        For a method that was fast so far, this is one long sample, of which one changes nothing: the process may have
        been stopped, or have collected garbage. A second one soon after does.
        """
        if self.mean and self.speed <= MEASURED_FAST:
            self.mean += (slow_method_threshold * _MOST_TIMES - self.mean) * _MEAN_WEIGHT
            if self.mean <= slow_method_threshold:
                if self.blocking is False:
                    self.blocking, self.speed = None, MEASURED_FAST
                return
        self.mean = max(self.mean, slow_method_threshold / _MEAN_WEIGHT)
        self.speed = SLOW
        if self.blocking is False:
            self.blocking = None  # the host's declaration was wrong: the method is measured from now on

    def takes_at_most(self, seconds: float) -> bool:
        """Return whether the mean duration of its calls is known, and not longer than some seconds."""
        count = sum(self.durations.counts)
        return count >= _KNOWN_AFTER and self.durations.total <= seconds * count

    def record_error(self, code: int) -> None:
        """Count a call that failed. Codes beyond the first few are counted as 0."""
        known = code in self.errors or len(self.errors) < _MAX_ERROR_CODES
        code = code if known else 0
        self.errors[code] = self.errors.get(code, 0) + 1

    def __repr__(self) -> str:
        return f"<Method {self.binder.signature}>"
