"""Methods that a host answers by name without having registered them, their params left as the bytes that came.

This is for hosts that pass calls on, such as a gateway: what they get is what the client wrote, to the digit, and what
they return may be JSON already (`msgspec.Raw`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import RpcError
from .context import CallContext
from .method import Method

__all__ = ["WILDCARD", "Passthrough", "RawHandler", "RawBatchHandler", "RawRpcError"]

RawHandler = Callable[[CallContext, bytes], Any]
"""Gets a call and its params as JSON, empty where it had none; returns the result or raises."""

RawBatchHandler = Callable[[Sequence[tuple[CallContext, bytes]]], Sequence[Any]]
"""Gets the calls of one batch; returns for each its result, or the exception that it fails with."""

_PASSED = "Passed on as it is"

WILDCARD = "*"
"""The name under which calls of methods without a declared permission are counted."""


class Passthrough:
    """Answers what nobody registered; see `RpcTable.fallback`.

    Attributes:
        methods: by name: those with a declared permission, and one for all others.
    """

    def __init__(
        self,
        function: RawHandler,
        permissions: Mapping[str, str | None],
        batch: RawBatchHandler | None,
        params: Mapping[str, Sequence[str]],
    ) -> None:
        self.methods = {
            name: _method(name, function, need, batch, params.get(name))
            for name, need in {**permissions, WILDCARD: None}.items()
        }

    def get(self, name: str) -> Method:
        """The method of this name."""
        return self.methods.get(name) or self.methods[WILDCARD]


def _method(
    name: str, function: RawHandler, permission: str | None, batch: RawBatchHandler | None, params: Sequence[str] | None
) -> Method:
    text = _PASSED if params is not None else f"{_PASSED}; what it takes is not known here"
    binder = _RawBinder(name, params or ())
    method = Method(name, function, permission, True, text, binder=binder, description=text)
    method.batch = batch
    return method


class RawRpcError(RpcError):
    """An error that is passed on as it is.

    Args:
        error: the `error` member as JSON.

    Raises:
        ValueError: it is no JSON object with a `code` and a `message`.
    """

    def __init__(self, error: bytes) -> None:
        try:
            found = _decode_error(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise ValueError(f"not an error of JSON-RPC: {problem}") from None
        super().__init__(found.code, found.message)
        self._raw = msgspec.Raw(error)

    def to_object(self) -> Any:
        """The `error` member, unchanged."""
        return self._raw


class _Error(msgspec.Struct, gc=False):
    code: int
    message: str = ""


_decode_error = msgspec.json.Decoder(_Error).decode


class _RawBinder:
    """Hands the params over as they are."""

    wants_context = True
    returns = Any

    def __init__(self, name: str, params: Sequence[str]) -> None:
        self.signature = f"{name}(...)"
        self.takes = [_param(name) for name in params]

    def bind(self, params: bytes, context: CallContext | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Context and params."""
        return (context, params), {}


def _param(name: str) -> inspect.Parameter:
    """One of which the name alone is known: `...` stands for whatever it is when it is left out."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=..., annotation=Any)
