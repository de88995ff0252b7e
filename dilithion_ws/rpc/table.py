"""The methods that a host offers: registered from any thread, also while they are being called.

Reading takes no lock: a registration replaces the whole dictionary, and readers keep the one that they have.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, overload

from ..errors import RegistrationError
from .method import Method, Speed
from .passthrough import Passthrough, RawBatchHandler, RawHandler

__all__ = ["Method", "Speed", "RpcTable"]

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")


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
        self._fallback: Passthrough | None = None

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

    def fallback(
        self,
        function: RawHandler,
        permissions: Mapping[str, str | None] | None = None,
        *,
        batch: RawBatchHandler | None = None,
        params: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Has methods that are not registered answered by one function, their params as the bytes that came.

        For hosts that pass calls on. Called again, it takes the place of the one before.

        Args:
            function: gets the call's context, whose `method` is the name, and the params as JSON, empty where there were
                none. It may wait. `msgspec.Raw` as its result goes to the client as it is, and so does a `RawRpcError`.
            permissions: what callers of a method must be allowed, by its name, as for `register`. Names that are missing
                here are for the role admin.
            batch: gets those calls of a batch that may be made, all at once, and returns for each its result, or the
                exception that it fails with. None: they are made one after the other.
            params: names of what methods take, in order, for `rpc.discover` alone: nothing is checked.
        """
        self._fallback = Passthrough(function, permissions or {}, batch, params or {})

    def methods(self) -> Mapping[str, Method]:
        """All methods by name, as they are at this moment; later changes do not show in it."""
        fallback = self._fallback
        return MappingProxyType(self._methods if fallback is None else {**fallback.methods, **self._methods})

    def get(self, name: str) -> Method | None:
        """The method of this name, None where there is none."""
        method = self._methods.get(name)
        if method is None and self._fallback is not None and _NAME.fullmatch(name) and not name.startswith("rpc."):
            return self._fallback.get(name)
        return method
