"""Answer methods that are not registered by one function, which gets their params as the bytes that were received.

This is for hosts that forward calls, such as the gateway: they get what the client wrote, digit by digit, and may return
JSON as it is (`msgspec.Raw`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..errors import RpcError
from .context import CallContext
from .method import Method, MethodOptions, RawBatchHandler, RawHandler

__all__ = ["WILDCARD", "Passthrough", "PassthroughFacts", "RawRpcError"]

_SUMMARY = "Passed on as it is"

WILDCARD = "*"
"""The name under which calls of methods without a declared permission are counted."""


class PassthroughFacts(NamedTuple):
    """What is known of methods that are passed on, by name. See `RpcTable.fallback`."""

    permissions: Mapping[str, str | None]
    params: Mapping[str, Sequence[str]]
    timeouts: Mapping[str, float]
    only_reads: Callable[[str], bool] | None


class Passthrough:
    """Answers methods that are not registered. See `RpcTable.fallback`.

    Attributes:
        methods: by name: the methods with a declared permission, and one under `WILDCARD` for all others.
    """

    def __init__(self, function: RawHandler, batch: RawBatchHandler | None, facts: PassthroughFacts) -> None:
        names = {**facts.permissions, WILDCARD: None, **dict.fromkeys(set(facts.timeouts) - set(facts.permissions))}
        self._make = functools.partial(_method, function=function, batch=batch, facts=facts)
        self._known = {name: self._make(name) for name in names}
        self.methods = self._known

    def describe(self, signatures: Mapping[str, inspect.Signature], texts: Mapping[str, str]) -> None:
        """See `RpcTable.describe`."""
        added = {name: self._make(name) for name in signatures if name not in self._known}
        self.methods = {**self._known, **added}  # readers keep the one that they have
        for name, method in self.methods.items():
            signature = signatures.get(name)
            method.is_described = signature is not None
            if signature is not None:
                method.binder = _RawBinder(name, list(signature.parameters.values()), signature.return_annotation)
                method.description = texts.get(name, "")
                method.summary = method.description.partition(". ")[0]

    def get(self, name: str) -> Method:
        """Return the method of this name, or the one for all others."""
        return self.methods.get(name) or self.methods[WILDCARD]


def _method(name: str, function: RawHandler, batch: RawBatchHandler | None, facts: PassthroughFacts) -> Method:
    params = facts.params.get(name)
    text = _SUMMARY if params is not None else f"{_SUMMARY}; what it takes is not known here"
    only_reads = facts.only_reads
    options = MethodOptions(
        permission=facts.permissions.get(name),
        blocking=True,
        summary=text,
        description=text,
        batch_handler=batch,
        timeout=facts.timeouts.get(name),
        only_reads=None if only_reads is None or name == WILDCARD else only_reads(name),
        is_undeclared=name not in facts.permissions,
    )
    return Method(name, function, options, _RawBinder(name, [_parameter(name) for name in params or ()]))


class RawRpcError(RpcError):
    """An error that is passed on as it is.

    Args:
        error: the `error` member as JSON.

    Raises:
        ValueError: it is not a JSON object with a `code` and a `message`.
    """

    def __init__(self, error: bytes) -> None:
        try:
            found = _decode_error(error)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise ValueError(f"not an error of JSON-RPC: {problem}") from None
        super().__init__(found.code, found.message)
        self._raw = msgspec.Raw(error)

    def to_object(self) -> Any:
        """Return the `error` member, unchanged."""
        return self._raw


class _Error(msgspec.Struct, gc=False):
    code: int
    message: str = ""


_decode_error = msgspec.json.Decoder(_Error).decode


class _RawBinder:
    """Passes the params on as they are."""

    needs_context = True

    def __init__(self, name: str, parameters: list[inspect.Parameter], return_type: Any = Any) -> None:
        self.signature = f"{name}(...)"
        self.parameters = parameters
        self.return_type = return_type

    def bind(self, params: bytes, context: CallContext | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the context and the params."""
        return (context, params), {}


def _parameter(name: str) -> inspect.Parameter:
    """Return a parameter of which only the name is known. The default `...` marks an unknown one."""
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=..., annotation=Any)
