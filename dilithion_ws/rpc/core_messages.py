"""Messages by POST in the form of Bitcoin Core, whose clients speak three versions of JSON-RPC. No I/O.

A request with `"jsonrpc": "2.0"` is answered as that standard has it. All others (1.0, 1.1, none) are answered with both
members, `result` and `error`, of which one is null, and with an HTTP status that depends on the error. Core does so since
version 28; before, it answered every request in the second way.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ..config.limits import Limits
from ..errors import JsonRpcCode, RpcError
from .messages import NULL_ID, check_shape, parse_request

__all__ = ["CoreRequest", "core_answer", "read_core_request"]

_LEGACY_VERSIONS = ("1.0", "1.1", None, 1, 1.1)
_STANDARD = "2.0"
_PROMISES_TOO_MUCH = "AuthServiceProxy"
"""python-bitcoinrpc says 2.0 in batches, and can only read answers with both members."""
_MEMBERS = ("method", "params", "id")
_STATUS = {
    int(JsonRpcCode.INVALID_REQUEST): 400,
    int(JsonRpcCode.METHOD_NOT_FOUND): 404,
    int(JsonRpcCode.PERMISSION_DENIED): 403,
    int(JsonRpcCode.RATE_LIMITED): 429,
    int(JsonRpcCode.SERVER_BUSY): 503,
}
_FAILED = 500

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class CoreRequest(NamedTuple):
    """The body of a POST.

    Attributes:
        body: the same as JSON-RPC 2.0.
        is_batch: whether it is an array.
        are_standard: for each answer that it gets, in their order, whether that has the form of JSON-RPC 2.0.
    """

    body: bytes
    is_batch: bool = False
    are_standard: tuple[bool, ...] = (False,)


class _Answer(msgspec.Struct, gc=False):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    id: msgspec.Raw = msgspec.Raw(NULL_ID)


class _Code(msgspec.Struct, gc=False):
    code: int = 0


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_code = msgspec.json.Decoder(_Code).decode


def read_core_request(body: bytes, limits: Limits, user_agent: str = "") -> CoreRequest:
    """Return a body as JSON-RPC 2.0. Anything else is left as it is, for the dispatcher to refuse."""
    if user_agent.startswith(_PROMISES_TOO_MUCH):
        found = read_core_request(body, limits)
        return found._replace(are_standard=(False,) * len(found.are_standard))
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        request, standard = _read(body)
        return CoreRequest(request, False, (standard,))
    try:
        check_shape(body, limits)
        elements = [_read(bytes(element)) for element in _decode_list(body)]
    except (RpcError, *_UNREADABLE):
        return CoreRequest(body)
    answered = tuple(standard for request, standard in elements if not (standard and _is_notification(request, limits)))
    return CoreRequest(b"[%b]" % b",".join(request for request, _ in elements), True, answered)


def core_answer(request: CoreRequest, answer: bytes) -> tuple[int, bytes]:
    """Return the HTTP status and the body for an answer of the dispatcher."""
    if not request.is_batch or answer[:1] != b"[":
        standard = request.are_standard[0] if not request.is_batch else False
        return (200, answer) if standard else _legacy(answer)
    found, standards = _decode_list(answer), request.are_standard
    if len(found) != len(standards):  # the dispatcher has read the batch in another way: all got executed, none is lost
        standards = (False,) * len(found)
    answers = [
        bytes(one) if standard else _legacy(bytes(one))[1] for one, standard in zip(found, standards, strict=True)
    ]
    return 200, b"[%b]" % b",".join(answers)


def _read(request: bytes) -> tuple[bytes, bool]:
    """Return one request as JSON-RPC 2.0, and whether it was that before."""
    try:
        members = _decode_object(request)
        version = _decode_any(members.get("jsonrpc", b"null"))
    except _UNREADABLE:
        return request, False
    if isinstance(version, bool) or version not in _LEGACY_VERSIONS:
        return request, version == _STANDARD
    members.setdefault("id", msgspec.Raw(NULL_ID))  # it is answered, whether it has one or not
    texts = [b'"%b":%b' % (name.encode(), bytes(members[name])) for name in _MEMBERS if name in members]
    return b"{%b}" % b",".join(texts), False


def _is_notification(request: bytes, limits: Limits) -> bool:
    try:
        return parse_request(request, limits).is_notification
    except RpcError:
        return False  # it is answered by an error


def _legacy(answer: bytes) -> tuple[int, bytes]:
    """Return one answer with both members, and the status of its error."""
    found = _decode_answer(answer)
    error, id = bytes(found.error), bytes(found.id)
    if not error:
        return 200, b'{"result":%b,"error":null,"id":%b}' % (bytes(found.result), id)
    status = _STATUS.get(_decode_code(error).code, _FAILED)
    return status, b'{"result":null,"error":%b,"id":%b}' % (error, id)
