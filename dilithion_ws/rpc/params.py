"""Bind the params of a call to the parameters of a Python function, and validate them by its type hints.

Two msgspec decoders are built for each function when it is registered, one for an array and one for an object of params,
so a call costs one pass over its bytes.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from ..errors import JsonRpcCode, RegistrationError, RpcError
from .context import CallContext
from .json_types import in_json_terms, shown_parameter
from .nested_params import NestedParams, ParamError

__all__ = ["ParamsBinder"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_LENGTH = re.compile(r"Expected `array` of (?:at (least|most) )?length \d+(?: to \d+)?(?:, got (\d+))?")
_NOTHING = (b"[]", b"", b"{}", b"null")
_NO_KEYWORDS: dict[str, Any] = {}


class ParamsBinder:
    """Bind params to the parameters of one function.

    Args:
        name: the method's name, for messages.
        function: the function. Its type hints state what is accepted; a parameter without one accepts anything.
        ignores_surplus: whether params that the function does not have are ignored. They are refused otherwise.

    Attributes:
        parameters: the parameters that come from a call, with their hints.
        return_type: the hint of the result.
        needs_context: whether a parameter is annotated `CallContext`.

    Raises:
        RegistrationError: a hint cannot be resolved or decoded, or there are `*args` or `**kwargs`.
    """

    def __init__(self, name: str, function: Callable[..., Any], ignores_surplus: bool = False) -> None:
        self._name = name
        self._ignores_surplus = ignores_surplus
        self._context_at: int | str | None = None
        self._signature: str | None = None  # made for the first error
        try:
            hints = typing.get_type_hints(function, include_extras=True)
            parameters = list(inspect.signature(function).parameters.values())
        except (NameError, TypeError, ValueError) as error:
            raise RegistrationError(f"{name}: the signature can't be read: {error}") from error
        self.return_type: Any = hints.get("return", Any)
        if hasattr(self.return_type, "model_dump"):
            raise RegistrationError(f"{name}: a pydantic model can't be encoded; return its `model_dump()`, a dict")
        self.parameters: list[inspect.Parameter] = []
        for index, parameter in enumerate(parameters):
            if hints.get(parameter.name) is CallContext:
                self._context_at = index if parameter.kind in _POSITIONAL else parameter.name
            elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise RegistrationError(f"{name}: *{parameter.name} can't be bound; name each parameter")
            else:
                annotation = hints.get(parameter.name, Any)
                self.parameters.append(parameter.replace(annotation=annotation))
        self._positional = sum(parameter.kind in _POSITIONAL for parameter in self.parameters)
        keywords = self.parameters[self._positional :]
        self._keywords = [parameter.name for parameter in keywords]
        self._has_required_keywords = any(parameter.default is inspect.Parameter.empty for parameter in keywords)
        self.needs_context = self._context_at is not None
        self._is_plain = not keywords and not self.needs_context
        self._nested = self._look_at_types()
        self._array_decoder = self._decoder(self.parameters[: self._positional], array_like=True)
        self._object_decoder = self._decoder(self.parameters, array_like=False)

    def bind(self, params: bytes, context: CallContext | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments for the function.

        Args:
            params: the bytes of `params`; empty if the call had none.
            context: needed if `needs_context` is true.

        Raises:
            RpcError: -32602, with what was wrong and what was expected.
        """
        if not self.parameters and (params in _NOTHING or self._ignores_surplus):
            arguments: tuple[Any, ...] = ()
        else:
            by_name = params[:1] == b"{"
            if not by_name and self._has_required_keywords:
                raise self._mismatch("some params can only be given by name")
            decoder = self._object_decoder if by_name else self._array_decoder
            params = b"[]" if params == b"" or params == b"null" else params
            try:
                if self._nested.is_needed:
                    params = self._nested.look_at(params, [parameter.name for parameter in self.parameters])
                decoded = decoder.decode(params)
            except ParamError as error:
                raise self._mismatch(str(error)) from None
            except msgspec.ValidationError as error:
                raise self._mismatch(self._explain(str(error), by_name)) from None
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise RpcError(JsonRpcCode.PARSE_ERROR, f"Parse error in params: {error}") from None
            arguments = msgspec.structs.astuple(decoded)
        if self._is_plain:
            return arguments, _NO_KEYWORDS
        keywords: dict[str, Any] = {}
        if len(arguments) > self._positional:
            keywords = dict(zip(self._keywords, arguments[self._positional :], strict=True))
            arguments = arguments[: self._positional]
        if isinstance(self._context_at, int):
            arguments = (*arguments[: self._context_at], context, *arguments[self._context_at :])
        elif self._context_at is not None:
            keywords[self._context_at] = context
        return arguments, keywords

    @property
    def signature(self) -> str:
        """The form of a call in JSON's terms, such as `getblock(hash: string, verbosity: integer = 1)`."""
        if self._signature is None:
            self._signature = f"{self._name}({', '.join(map(shown_parameter, self.parameters))})"
        return self._signature

    def _mismatch(self, text: str) -> RpcError:
        text = f"Invalid params: {text}. Expected {self.signature}"
        return RpcError(JsonRpcCode.INVALID_PARAMS, text, {"expected": self.signature})

    def _look_at_types(self) -> NestedParams:
        try:
            return NestedParams([parameter.annotation for parameter in self.parameters], not self._ignores_surplus)
        except TypeError as error:
            raise RegistrationError(f"{self._name}: a parameter's type can't be decoded from JSON: {error}") from error

    def _decoder(self, parameters: list[inspect.Parameter], *, array_like: bool) -> msgspec.json.Decoder[Any]:
        columns: list[Any] = []
        for parameter in parameters:
            if parameter.default is inspect.Parameter.empty:
                columns.append((parameter.name, parameter.annotation))
            else:
                default = msgspec.field(default_factory=_constant(parameter.default))
                columns.append((parameter.name, parameter.annotation, default))
        try:
            params = msgspec.defstruct(
                self._name,
                columns,
                array_like=array_like,
                forbid_unknown_fields=not self._ignores_surplus,
                kw_only=not array_like,
            )
            return msgspec.json.Decoder(params)
        except (TypeError, ValueError) as error:
            raise RegistrationError(f"{self._name}: a parameter's type can't be decoded from JSON: {error}") from error

    def _explain(self, text: str, by_name: bool) -> str:
        """Return msgspec's message in JSON terms: `$[0]` becomes the parameter's name."""
        length = _LENGTH.fullmatch(text)
        if length is not None and not by_name:
            if length[2] is not None and int(length[2]) < self._positional:
                return f"missing required parameter `{self.parameters[int(length[2])].name}`"
            return f"takes at most {self._positional} params"
        text = in_json_terms(text)
        if not by_name:
            for index, parameter in enumerate(self.parameters):
                text = text.replace(f"`$[{index}]", f"`{parameter.name}", 1)
        return (
            text.replace("`$.", "`")
            .replace("Object missing required field", "missing required parameter")
            .replace("Object contains unknown field", "unknown parameter")
        )


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
