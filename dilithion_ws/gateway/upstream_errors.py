"""Errors for calls that the node has not answered, with the JSON-RPC code and text that clients see."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from .. import JsonRpcCode, RpcError

__all__ = ["UpstreamErrorKind", "UpstreamError"]


class _Cause(NamedTuple):
    """What clients learn of a cause, and whether the gateway itself stops calling for a while."""

    text: str
    code: JsonRpcCode
    retry_seconds: float
    pauses_gateway: bool


class UpstreamErrorKind(Enum):
    """Why the node has not answered a call."""

    DOWN = _Cause("the node can't be reached", JsonRpcCode.SERVER_BUSY, 1.0, False)
    """Nothing was sent."""
    LOST = _Cause("the node broke off, and may have executed the call", JsonRpcCode.CALL_TIMED_OUT, 0.0, False)
    """Nothing that a client should repeat by itself."""
    BROKEN_OFF = _Cause("the node broke off before it had answered", JsonRpcCode.SERVER_BUSY, 1.0, False)
    """The same for a call that only reads, so that it may be repeated."""
    SLOW = _Cause(
        "the node did not answer in time, and may still execute the call", JsonRpcCode.CALL_TIMED_OUT, 0.0, False
    )
    SLOW_READ = _Cause(
        "the node did not answer in time; the call only reads, and may be repeated",
        JsonRpcCode.CALL_TIMED_OUT,
        1.0,
        False,
    )
    """The same for a call that only reads."""
    BUSY = _Cause("the node is overloaded", JsonRpcCode.SERVER_BUSY, 1.0, False)
    LIMITED = _Cause("the node's rate limit is reached", JsonRpcCode.RATE_LIMITED, 1.0, True)
    METHOD_LIMITED = _Cause("the node's rate limit for this method is reached", JsonRpcCode.RATE_LIMITED, 1.0, True)
    LOCKED_OUT = _Cause("the node has locked the gateway out after failed logins", JsonRpcCode.SERVER_BUSY, 60.0, True)
    REFUSED = _Cause("the node rejects the gateway's credentials", JsonRpcCode.SERVER_BUSY, 15.0, True)
    """Pausing keeps the node from locking the gateway out."""
    FORBIDDEN = _Cause("the node denies this to the gateway's account", JsonRpcCode.PERMISSION_DENIED, 0.0, False)
    UNKNOWN = _Cause(
        "the node has not been reached yet, so that its dialect is not known",
        JsonRpcCode.SERVER_BUSY,
        1.0,
        False,
    )
    UNREADABLE = _Cause("the node's answer can't be read", JsonRpcCode.INTERNAL_ERROR, 0.0, False)
    TOO_LARGE = _Cause("the node's answer is too large", JsonRpcCode.RESULT_TOO_LARGE, 0.0, False)


class UpstreamError(RpcError):
    """The node has not answered a call.

    Attributes:
        kind: why.
        pause: seconds for which the gateway must not call the node.
    """

    def __init__(self, kind: UpstreamErrorKind, detail: str = "", retry: float | None = None) -> None:
        cause = kind.value
        text, code = cause.text, cause.code
        retry = cause.retry_seconds if retry is None else retry
        data: dict[str, Any] = {"upstream": kind.name.lower()}
        if retry:
            data["retry_after_ms"] = int(retry * 1000)
        start = "Server busy: " if code == JsonRpcCode.SERVER_BUSY else ""
        text = start + text if start else text[0].upper() + text[1:]
        super().__init__(code, f"{text}: {detail}" if detail else text, data)
        self.kind = kind
        self.pause = retry if cause.pauses_gateway else 0.0
