"""JSON-RPC 2.0 messages as bytes: reading requests strictly, writing answers exactly.

An id is never decoded on its way through: the bytes that came are the bytes that go back, so that `12`, `"12"`,
`18446744073709551615` and `1.50` all return as they were.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError

__all__ = [
    "NULL_ID",
    "Request",
    "encode_result",
    "error_answer",
    "id_value",
    "identify",
    "invalid_request",
    "parse_batch",
    "parse_members",
    "parse_error",
    "parse_request",
    "success_answer",
]

NULL_ID = b"null"
_ABSENT = msgspec.Raw(b"")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)  # an unclosed one too: no way to backtrack
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ID_STARTS = frozenset(b'"-0123456789n')
_PARAMS_STARTS = frozenset(b"[{n")
_BACKSLASH, _LETTER_N, _LETTER_I = b"\\NI"  # numbers: to look for bytes in bytes takes an exception inside of CPython
_PARSE_STEPS = (
    "Check JSON syntax",
    "Send UTF-8 text without a byte order mark",
    "Ensure the request follows JSON-RPC 2.0",
)
_REQUEST_STEPS = ("Send an object with a method, and an id if an answer is wanted", "Ensure it follows JSON-RPC 2.0")


class Request(msgspec.Struct, gc=False):
    """One request object; `params` and `id` are left as the bytes that came, empty where they were absent."""

    method: str
    params: bytes
    id: bytes

    @property
    def is_notification(self) -> bool:
        """Whether there was no id, so that no answer may be sent (JSON-RPC 2.0 section 4.1)."""
        return not self.id


class _Wire(msgspec.Struct, gc=False):
    method: str
    params: msgspec.Raw = _ABSENT
    id: msgspec.Raw = _ABSENT
    jsonrpc: str | None = None


class _IdOnly(msgspec.Struct, gc=False):
    id: msgspec.Raw = _ABSENT


_decode_request = msgspec.json.Decoder(_Wire).decode
_decode_id = msgspec.json.Decoder(_IdOnly).decode
_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode


def _encode_other(value: Any) -> Any:
    """What msgspec leaves to us: subclasses of Decimal, written without an exponent, as amounts are expected."""
    if isinstance(value, Decimal) and value.is_finite():
        return msgspec.Raw(format(value, "f").encode())
    raise TypeError(f"a value of type {type(value).__name__} can't be encoded as JSON")


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_encode_other).encode


def parse_request(data: bytes, limits: Limits) -> Request:
    """Reads one request object.

    Raises:
        RpcError: -32700 where it is no JSON, -32600 where it is no request; `identify` tells the id to answer with.
    """
    return Request(*parse_members(data, limits))


def parse_members(data: bytes, limits: Limits) -> tuple[str, bytes, bytes]:
    """The members of a request: method, params and id; see `Request` and `parse_request`."""
    try:
        wire = _decode_request(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_request(data, limits, error) from None
    params, id, version = bytes(wire.params), bytes(wire.id), wire.jsonrpc
    members = 1
    if version is not None:
        members = 2
        if version != "2.0":
            raise invalid_request(f"the jsonrpc member is {version[:16]!r}, it must be '2.0'")
    if params:
        members += 1
        if params[0] not in _PARAMS_STARTS:
            _check_shape(data, limits)
            raise invalid_request("params must be an array or an object")
    if id:
        members += 1
        if id[0] not in _ID_STARTS or _BACKSLASH in id:
            _check_id(id)
    # Each member has a colon: where there are no more colons than members that were found, none occurs twice, all are
    # known, and only params can nest: no deeper than they are long.
    if data.count(b":") != members:
        _check_shape(data, limits)
        _check_duplicates(data)
    elif len(params) > limits.messages.json_depth:
        _check_shape(data, limits)
    return wire.method, params, id


def parse_batch(data: bytes, limits: Limits) -> list[bytes]:
    """Splits a batch into its elements, each of which is still to be read by `parse_request`.

    Raises:
        RpcError: -32700, -32600 for an empty batch, -32010 for one with too many elements.
    """
    _check_shape(data, limits)
    try:
        elements = _decode_batch(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise parse_error(str(error)) from None
    if not elements:
        raise invalid_request("the batch is empty")
    if len(elements) > limits.messages.batch_size:
        raise RpcError(
            JsonRpcCode.BATCH_TOO_LARGE,
            f"Batch of {len(elements)} calls is past the {limit_reached(limits, 'batch_size')}",
            {"limit": limits.messages.batch_size},
            error_code="RPC-BATCH-TOO-LARGE",
            recovery_steps=("Send fewer calls in one batch", "Split the batch"),
        )
    return [bytes(element) for element in elements]


def identify(data: bytes) -> bytes:
    """The id of something that is no valid request: its bytes where it has a usable one, else null (section 5)."""
    try:
        found = bytes(_decode_id(data).id)
        _check_id(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, RpcError, IndexError):
        return NULL_ID
    return found


def id_value(request: Request) -> Any:
    """The id as Python has it, None for a notification."""
    if request.is_notification:
        return None
    try:
        return _decode_any(request.id)
    except msgspec.MsgspecError:  # a number beyond Python's own bounds, which is no fault
        return request.id.decode()


def encode_result(value: Any) -> bytes:
    """A result as JSON: Decimal as a number without rounding, integers with every digit.

    Raises:
        Exception: whatever msgspec raises for a value that JSON can't hold.
    """
    text = _encode(value)
    if (_LETTER_N in text or _LETTER_I in text) and (b"NaN" in text or b"Infinity" in text):
        _decode_any(text)  # only a Decimal gets that far, and as it is it would be no JSON
    return text


def success_answer(id: bytes, result: bytes, position: Any = None) -> bytes:
    """An answer with a result, both given as JSON, and where there is one with the place in a log that it belongs to."""
    if position is not None:
        return b'{"jsonrpc":"2.0","result":%b,"id":%b,"position":%b}' % (result, id, _encode(position))
    return b"".join((b'{"jsonrpc":"2.0","result":', result, b',"id":', id, b"}"))


def error_answer(id: bytes, error: RpcError) -> bytes:
    """An answer with an error; data that can't be encoded is replaced by its type's name."""
    try:
        text = _encode(error.to_object())
    except Exception:
        message = str(error.message).encode("utf-8", "replace").decode()
        plain = RpcError(error.code, message, {"unencodable": type(error.data).__name__})
        text = _encode(plain.to_object())
    return b'{"jsonrpc":"2.0","error":%b,"id":%b}' % (text, id)


def parse_error(text: str) -> RpcError:
    """-32700, with what is wrong."""
    return RpcError(
        JsonRpcCode.PARSE_ERROR,
        f"Parse error: {text}",
        error_code="RPC-PARSE-ERROR",
        recovery_steps=_PARSE_STEPS,
    )


def invalid_request(text: str) -> RpcError:
    """-32600, with what is wrong."""
    return RpcError(
        JsonRpcCode.INVALID_REQUEST,
        f"Invalid request: {text}",
        error_code="RPC-INVALID-REQUEST",
        recovery_steps=_REQUEST_STEPS,
    )


def _not_a_request(data: bytes, limits: Limits, error: Exception) -> RpcError:
    """msgspec stops at the first wrong type; whether the rest is JSON at all decides between the two codes."""
    _check_shape(data, limits)
    if not isinstance(error, msgspec.ValidationError):
        return parse_error(str(error))
    try:
        _decode_any(data)
    except msgspec.ValidationError as problem:
        return invalid_request(str(problem))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        return parse_error(str(problem))
    return invalid_request(str(error))


def _check_id(id: bytes) -> None:
    if id[0] not in _ID_STARTS:
        raise invalid_request("id must be a string, a number or null")
    if b"\\" in id:
        try:
            _decode_any(id)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise parse_error(f"in id: {error}") from None


def _check_shape(data: bytes, limits: Limits) -> None:
    """Refuses nesting past the limit before anything recurses over it."""
    if data.count(b"[") + data.count(b"{") <= limits.messages.json_depth:
        return
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    for _ in range(limits.messages.json_depth):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(brackets):
            return  # closed, or not balanced: the decoder will say so
        brackets = inner
    if brackets:
        raise parse_error(f"nested deeper than the {limit_reached(limits, 'json_depth')}")


def _check_duplicates(data: bytes) -> None:
    """Refuses an object with the same member twice, since two readers may take different ones of them."""
    try:
        json.loads(data, object_pairs_hook=_unique, parse_int=len, parse_float=len)
    except (ValueError, RecursionError) as error:
        raise parse_error(str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise invalid_request(f"member {name[:64]!r} occurs twice in one object")
        seen.add(name)
