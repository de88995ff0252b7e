"""The methods that a host offers: registered from any thread, also while they are being called.

Reading takes no lock: a registration replaces the whole dictionary, and readers keep the one that they have.
"""

from __future__ import annotations

import inspect
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

from ..errors import RegistrationError
from .binding import Binder
from .times import BOUNDS, Times

__all__ = ["Method", "Pace", "RpcTable"]

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")


class Pace:
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
        binder: from params to arguments.
        mean: seconds that its recent calls took, an exponential mean over about eight of them.
        pace: what follows from `blocking` and `mean`, see `Pace`.
        need: the rights that a call needs, once somebody has worked them out from name and permission; -1 before.
        is_login: whether its calls check passwords, and so wait in a queue of their own.
        times: how long its calls took.
        succeeded: how many of them had a result.
        errors: how many of them failed, by code.
        position_of: the topic whose position its answers are stamped with, None for none.
    """

    __slots__ = (
        "binder",
        "blocking",
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
    ) -> None:
        self.name = name
        self.function = function
        self.permission = permission
        self.blocking = blocking
        self.summary = summary
        self.binder = Binder(name, function)
        self.mean = 0.0
        self.need = -1
        self.is_login = False
        self.position_of = position_of
        self.times = Times()
        self.succeeded = 0
        self.errors: dict[int, int] = {}
        self.pace = {None: Pace.UNKNOWN, True: Pace.SLOW, False: Pace.DECLARED_FAST}[blocking]

    def took(self, seconds: float, slow_after: float) -> None:
        """Notes the duration of one call. Threads may race here: a mean may lose a sample, which does no harm."""
        times = self.times
        times.total += seconds
        times.counts[bisect_left(BOUNDS, seconds)] += 1
        self.mean = mean = self.mean + (seconds - self.mean) * 0.125
        if mean > slow_after:
            if self.blocking is None:
                self.pace = Pace.SLOW
        elif self.pace > Pace.SEEN_FAST and mean <= slow_after / 2 and self.blocking is None:
            self.pace = Pace.SEEN_FAST

    def stalled(self, slow_after: float) -> None:
        """Notes that a call is taking so long that it is known to be slow before it has ended."""
        self.mean = max(self.mean, 8 * slow_after)
        self.pace = Pace.SLOW
        if self.blocking is False:
            self.blocking = None  # the host was mistaken: it is measured from now on

    def __repr__(self) -> str:
        return f"<Method {self.binder.signature}>"


class RpcTable:
    """Methods by name. Thread-safe; may be shared by several servers.

    Example:
        >>> rpc = RpcTable()
        >>> @rpc.method
        ... def getblockcount() -> int:
        ...     return 840000
    """

    def __init__(self) -> None:
        self._registration = threading.Lock()  # guards the replacement of `_methods`, nothing else
        self._methods: dict[str, Method] = {}

    @overload
    def method(self, function: F, /) -> F: ...

    @overload
    def method(
        self,
        /,
        *,
        name: str | None = None,
        permission: str | None = None,
        blocking: bool | None = None,
        summary: str | None = None,
        position_of: str | None = None,
    ) -> Callable[[F], F]: ...

    def method(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        permission: str | None = None,
        blocking: bool | None = None,
        summary: str | None = None,
        position_of: str | None = None,
    ) -> Any:
        """Registers a function under its own name, as a decorator with or without arguments; see `register`."""

        def decorate(function: F) -> F:
            self.register(
                name or function.__name__,
                function,
                permission=permission,
                blocking=blocking,
                summary=summary,
                position_of=position_of,
            )
            return function

        return decorate if function is None else decorate(function)

    def register(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        permission: str | None = None,
        blocking: bool | None = None,
        summary: str | None = None,
        position_of: str | None = None,
    ) -> Method:
        """Registers a method; clients may call it from now on.

        Args:
            name: up to 64 letters, digits, underscores and dots; not one that begins with `rpc.` (JSON-RPC 2.0
                section 4.3 keeps those).
            function: a plain blocking function. Its type hints say what params are accepted; a parameter annotated
                `CallContext` gets the call's context instead.
            permission: what the caller must be allowed to do.
            blocking: True for a function that waits (for a disk, a lock, a block): its calls never run in the leading
                thread. False for one that never does. None lets the server find out by measuring.
            summary: one line for people; default: the first line of the docstring.
            position_of: a topic: answers get a member `position` with its epoch and seq, taken before the function is
                called. A client that subscribes `since` there misses nothing that the result does not have; it may get
                what the result has already. For that the host must change its state first and publish then.

        Raises:
            RegistrationError: the name is taken or malformed, or the signature can't be bound to params.
        """
        if not callable(function):
            raise RegistrationError(f"{name}: {function!r} is not callable")
        if inspect.iscoroutinefunction(function):
            raise RegistrationError(f"{name}: a coroutine function can't be called here; register a plain function")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("rpc."):
            raise RegistrationError(f"{name!r} is no method name: 1 to 64 of A-Z a-z 0-9 _ . and no prefix rpc.")
        if summary is None:
            summary = (inspect.getdoc(function) or "").partition("\n")[0]
        method = Method(name, function, permission, blocking, summary, position_of)
        with self._registration:
            if name in self._methods:
                raise RegistrationError(f"{name} is registered already; unregister it first")
            self._methods = {**self._methods, name: method}
        return method

    def unregister(self, name: str) -> None:
        """Removes a method; calls that are running go on. Raises KeyError where there is none."""
        with self._registration:
            methods = dict(self._methods)
            del methods[name]
            self._methods = methods

    def methods(self) -> Mapping[str, Method]:
        """All methods by name, as they are at this moment; later changes do not show in it."""
        return MappingProxyType(self._methods)

    def get(self, name: str) -> Method | None:
        """The method of this name, None where there is none."""
        return self._methods.get(name)
