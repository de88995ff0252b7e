"""The methods that a host offers. They may be registered from any thread, also while others are called.

Reading takes no lock: a registration replaces the whole dictionary, and readers keep the one that they have.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, overload

from ..auth.permissions import parse_rights
from ..errors import ConfigError, RegistrationError
from ..util.enums import RpcDialect
from ..util.thread_contracts import any_thread
from .method import Method, MethodOptions, RawBatchHandler, RawHandler
from .params import ParamsBinder
from .passthrough import Passthrough, PassthroughFacts

__all__ = ["OWN_METHODS", "RpcTable"]

F = TypeVar("F", bound=Callable[..., Any])

OWN_METHODS = frozenset(
    {
        "authenticate",
        "subscribe",
        "unsubscribe",
        "subscriptions",
        "topics",
        "dilithion_subscribe",
        "dilithion_unsubscribe",
    }
)
"""Methods of every server, which take precedence over the host's."""
_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")


class RpcTable:
    """Methods by name. Thread-safe. Several servers may share a table.

    Args:
        ignores_surplus_params: whether methods ignore params that they do not have, as the Dilithion node does. They
            refuse them otherwise, so that a client learns of a typing error.
        title, version: what the OpenRPC document calls them; version "" for that of this package.

    Attributes:
        title, version: as given.
        revision: is another one after each `describe`.
        dialect: how clients of these methods speak by POST. With `RpcDialect.CORE` they may use another version of
            JSON-RPC, need no header, send larger batches (limit `core_batch_size`), and choose a wallet by the path
            `/wallet/<name>`, which handlers find in `CallContext.wallet`. It may be changed at any time.

    Example:
        >>> rpc = RpcTable()
        >>> @rpc.method
        ... def getblockcount() -> int:
        ...     return 840000
    """

    def __init__(
        self, *, ignores_surplus_params: bool = False, title: str = "Dilithion RPC", version: str = ""
    ) -> None:
        self.title = title
        self.version = version
        self._ignores_surplus = ignores_surplus_params
        self._lock = threading.Lock()  # guards the replacement of `_methods`; readers need no lock
        self._methods: dict[str, Method] = {}
        self._fallback: Passthrough | None = None
        self.dialect = RpcDialect.DILITHION
        self.revision = 0
        self._before_describing: Callable[[], None] | None = None

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
        timeout: float | None = None,
    ) -> Callable[[F], F]: ...

    @any_thread
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
        timeout: float | None = None,
    ) -> Any:
        """Register a function under its own name. Use it as a decorator, with or without arguments; see `register`."""

        def decorate(function: F) -> F:
            self.register(
                name or function.__name__,
                function,
                permission=permission,
                blocking=blocking,
                summary=summary,
                position_of=position_of,
                timeout=timeout,
            )
            return function

        return decorate if function is None else decorate(function)

    @any_thread
    def register(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        permission: str | None = None,
        blocking: bool | None = None,
        summary: str | None = None,
        position_of: str | None = None,
        timeout: float | None = None,
    ) -> Method:
        """Register a method, which clients may call from now on.

        Args:
            name: up to 64 letters, digits, underscores and dots, without the prefix `rpc.`, which JSON-RPC 2.0 section
                4.3 reserves.
            function: a plain blocking function. Its type hints state which params are accepted; a parameter annotated
                `CallContext` receives the call's context instead. For work that takes long, it may return a
                `concurrent.futures.Future`: no thread is held while that is pending, and it is cancelled if the call
                times out.
            permission: what a caller must be allowed: names of permissions, joined by `|`.
            blocking: True for a function that blocks (on a disk, a lock, a block): its calls never run in the leading
                thread. False for one that never does. None lets the server measure it.
            summary: one line for people; default: the first line of the docstring.
            position_of: a topic. Answers get a member `position` with the topic's epoch and seq, taken before the
                function is called. A client that subscribes `since` that position misses no event that the result does
                not include; it may receive events that the result includes. For that, the host must change its state
                before it publishes.
            timeout: seconds that a call may take, for a method that needs more, or less, than the limit `call_timeout`;
                the setting `method_timeouts` takes precedence.

        Raises:
            RegistrationError: the name is taken, malformed or one of the server's own, no permission has such a name, or
                params cannot be bound to the signature.
        """
        if not callable(function):
            raise RegistrationError(f"{name}: {function!r} is not callable")
        if inspect.iscoroutinefunction(function):
            raise RegistrationError(f"{name}: a coroutine function can't be called here; register a plain function")
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("rpc."):
            raise RegistrationError(
                f"{name!r} is not a method name: 1 to 64 of A-Z a-z 0-9 _ . without the prefix rpc."
            )
        if name in OWN_METHODS:
            raise RegistrationError(f"{name} is a method of the server: the host's would never be called")
        if permission is not None:
            try:
                parse_rights(permission, f"the permission of {name}")
            except ConfigError as error:
                raise RegistrationError(str(error)) from None
        if summary is None:
            summary = (inspect.getdoc(function) or "").partition("\n")[0]
        options = MethodOptions(
            permission=permission, blocking=blocking, summary=summary, position_of=position_of, timeout=timeout
        )
        method = Method(name, function, options, ParamsBinder(name, function, self._ignores_surplus))
        with self._lock:
            if name in self._methods:
                raise RegistrationError(f"{name} is registered already; unregister it first")
            self._methods = {**self._methods, name: method}
        return method

    @any_thread
    def unregister(self, name: str) -> None:
        """Remove a method. Running calls continue. Raises KeyError if it does not exist."""
        with self._lock:
            methods = dict(self._methods)
            del methods[name]
            self._methods = methods

    @any_thread
    def fallback(
        self,
        function: RawHandler,
        permissions: Mapping[str, str | None] | None = None,
        *,
        batch: RawBatchHandler | None = None,
        params: Mapping[str, Sequence[str]] | None = None,
        timeouts: Mapping[str, float] | None = None,
        only_reads: Callable[[str], bool] | None = None,
    ) -> None:
        """Answer all methods that are not registered by one function, for hosts that forward calls.

        A second call replaces the function of the first.

        Args:
            function: gets the call's context, whose `method` is the name, and the params as JSON, empty if there were
                none. It may block. A `msgspec.Raw` that it returns, and a `RawRpcError` that it raises, are sent as they
                are.
            permissions: what callers of a method must be allowed, by method name, as for `register`. Other methods are
                restricted to the role admin.
            batch: gets the allowed calls of a batch all at once, and returns for each its result, or the exception that
                it fails with. None: `function` gets them one after the other.
            params: names of the params of methods, in order. Only `rpc.discover` uses them; nothing is checked.
            timeouts: seconds that calls of a method may take, by its name, as for `register`.
            only_reads: whether a method changes nothing; the error for a timeout tells clients.
        """
        facts = PassthroughFacts(permissions or {}, params or {}, timeouts or {}, only_reads)
        self._fallback = Passthrough(function, batch, facts)

    @any_thread
    def before_describing(self, function: Callable[[], None] | None) -> None:
        """Call a function in a worker whenever a client asks for a description. It may block, and call `describe`."""
        self._before_describing = function

    @any_thread
    def refresh_description(self) -> None:
        """Call the function of `before_describing`, if there is one."""
        if self._before_describing is not None:
            self._before_describing()

    @any_thread
    def describe(self, signatures: Mapping[str, inspect.Signature], texts: Mapping[str, str]) -> None:
        """Tell `rpc.discover` what the methods of the fallback take and return, for a host that learns it later.

        Args:
            signatures: by method name: its parameters, and the type of its result. What has no type hint but a JSON
                Schema is `Annotated[Any, msgspec.Meta(extra_json_schema=…)]`; the default `...` is one that is not known.
                Methods that are not named here are not described any more.
            texts: by method name, for people.
        """
        if self._fallback is not None:
            self._fallback.describe(signatures, texts)
            self.revision += 1

    @any_thread
    def methods(self) -> Mapping[str, Method]:
        """Return all methods by name. Later changes do not show in the returned mapping."""
        fallback = self._fallback
        return MappingProxyType(self._methods if fallback is None else {**fallback.methods, **self._methods})

    @any_thread
    def get(self, name: str) -> Method | None:
        """Return the method of this name, or None."""
        method = self._methods.get(name)
        if method is None and self._fallback is not None and _NAME.fullmatch(name) and not name.startswith("rpc."):
            return self._fallback.get(name)
        return method
