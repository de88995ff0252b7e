"""Read results and errors from the HTTP responses of a node, malformed ones included. No I/O.

A result or an error is passed on as the bytes that came. What is not JSON-RPC (a bare `error`, a status without a body,
JSON that is broken by an unescaped quote) is made into an error that says what happened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .. import RawRpcError, RpcError
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["Outcome", "UpstreamReply", "read_batch", "read_one"]

Outcome = Any
"""`msgspec.Raw` or `RpcError`."""


class UpstreamReply(NamedTuple):
    """An HTTP response.

    Attributes:
        status: its code.
        headers: by name; any case will do.
        body: what there was of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Answer(msgspec.Struct, gc=False):
    result: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")
    id: msgspec.Raw = msgspec.Raw(b"")


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_check = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_BROKEN_ERROR = re.compile(
    rb'\s*\{"jsonrpc":"2\.0","error":\{"code":(?P<code>-?\d+),"message":"(?P<message>.*?)"'
    rb'(?:,"error_code":"(?P<name>[A-Z-]*)"(?:,"recovery_steps":(?P<steps>\[[^\]]*\]))?)?\},"id":(?P<id>[^{}]*?)\}\s*\Z',
    re.DOTALL,
)
"""An error of the Dilithion node, which does not escape what it quotes in messages."""

_BARE = re.compile(rb'\s*\{"error":("(?:[^"\\]|\\.)*")(?:,"code":-?\d+)?\}\s*\Z')
"""An error of the Dilithion node that is not JSON-RPC: a text, and nothing else. It must be the whole body, since other
error messages quote the client's input, so a client controls parts of them."""

_BETWEEN = re.compile(rb'(?<=\}),(?=\{"jsonrpc":"2\.0",)')


def read_one(reply: UpstreamReply) -> Outcome:
    """Return the outcome of a single call."""
    return _bare(reply) or _outcome(_parse(reply.body), reply)


def read_batch(reply: UpstreamReply, ids: Sequence[int]) -> list[Outcome]:
    """Return the outcomes of the calls of a batch, in the order of their ids."""
    body = reply.body.strip()
    if body[:1] != b"[":
        return [read_one(reply)] * len(ids)  # one word for all of them
    found: dict[bytes, Outcome] = {}
    for piece in _pieces(body):
        answer = _parse(piece)
        if answer is not None:
            found[bytes(answer.id)] = _outcome(answer, reply)
    missing = UpstreamError(UpstreamErrorKind.UNREADABLE, "there is none for this call in its batch")
    return [found.get(b"%d" % id, missing) for id in ids]


def _pieces(body: bytes) -> list[bytes]:
    try:
        return [bytes(piece) for piece in _decode_list(body)]
    except _UNREADABLE:
        return _BETWEEN.split(body[1:].rstrip().removesuffix(b"]"))


def _parse(body: bytes) -> _Answer | None:
    """Return the answer in some bytes, or None if they contain none."""
    try:
        body.decode()
        return _decode_answer(body)
    except _UNREADABLE:
        pass
    broken = _BROKEN_ERROR.match(body)
    if broken is None:
        return None
    message = broken["message"].decode("utf-8", "replace")
    try:
        message = json.loads(f'"{message}"')
    except ValueError:
        pass  # the quotes that broke it are in the message
    error = {"code": int(broken["code"]), "message": message}
    if broken["name"] is not None:
        error["error_code"] = broken["name"].decode()
    if broken["steps"] is not None:
        try:
            error["recovery_steps"] = json.loads(broken["steps"])
        except ValueError:
            pass
    return _Answer(error=msgspec.Raw(json.dumps(error).encode()), id=msgspec.Raw(broken["id"].strip()))


def _outcome(answer: _Answer | None, reply: UpstreamReply) -> Outcome:
    if answer is None:
        return _of_status(reply)
    error, result = bytes(answer.error), answer.result
    if error not in (b"", b"null"):
        return _raw(error, reply)
    if bytes(result):
        return result.copy()
    return _of_status(reply)


def _raw(error: bytes, reply: UpstreamReply) -> RpcError:
    try:
        found = RawRpcError(error)
    except ValueError as problem:
        return UpstreamError(UpstreamErrorKind.UNREADABLE, str(problem))
    if b'"RPC-RATE-LIMIT"' in error:
        return UpstreamError(UpstreamErrorKind.METHOD_LIMITED, found.message, _retry_after(reply))
    if b'"RPC-PERMISSION-DENIED"' in error:
        return UpstreamError(UpstreamErrorKind.FORBIDDEN)
    return found


def _bare(reply: UpstreamReply) -> UpstreamError | None:
    """Return the error of a response whose `error` is a text, which is not JSON-RPC, or None for other responses."""
    found = _BARE.match(reply.body)
    if found is None:
        return None
    try:
        text = str(json.loads(found[1]))
    except ValueError:
        return None
    if text.startswith("Rate limit"):
        return UpstreamError(UpstreamErrorKind.LIMITED, retry=_retry_after(reply))
    if text.startswith("Too many failed"):
        return UpstreamError(UpstreamErrorKind.LOCKED_OUT)
    if text.startswith("Unauthorized"):
        return UpstreamError(UpstreamErrorKind.REFUSED)
    return UpstreamError(UpstreamErrorKind.UNREADABLE, text[:200])


def _of_status(reply: UpstreamReply) -> UpstreamError:
    """Return the error of a response without a readable body, by its status."""
    if reply.status == 401:
        return UpstreamError(UpstreamErrorKind.REFUSED)
    if reply.status == 403:
        return UpstreamError(UpstreamErrorKind.FORBIDDEN)
    if reply.status == 429:
        return UpstreamError(UpstreamErrorKind.LIMITED, retry=_retry_after(reply))
    if reply.status == 503 or b"Work queue depth exceeded" in reply.body[:200]:
        return UpstreamError(UpstreamErrorKind.BUSY)
    if reply.status in (502, 504):  # of a proxy, which may have passed the call on
        return UpstreamError(UpstreamErrorKind.LOST)
    return UpstreamError(UpstreamErrorKind.UNREADABLE, f"status {reply.status}")


def _retry_after(reply: UpstreamReply) -> float:
    for name, value in reply.headers.items():
        if name.lower() == "retry-after" and value.strip().isdigit():
            return max(float(value), 0.1)
    return 1.0
