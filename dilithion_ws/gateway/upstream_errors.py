"""Errors for calls that the node has not answered, with the JSON-RPC code and text that clients see."""

from __future__ import annotations

from enum import Enum
from typing import Any

from .. import JsonRpcCode, RpcError

__all__ = ["UpstreamErrorKind", "UpstreamError", "trouble"]


class UpstreamErrorKind(Enum):
    """The cause: text, code, seconds until a client should try again, and whether the gateway itself should pause."""

    DOWN = ("the node can't be reached", JsonRpcCode.SERVER_BUSY, 1.0, False)
    """Nothing was sent."""
    LOST = ("the node broke off, and may have carried out the call", JsonRpcCode.CALL_TIMED_OUT, 0.0, False)
    """Nothing that a client should repeat by itself."""
    BROKEN_OFF = ("the node broke off before it had answered", JsonRpcCode.SERVER_BUSY, 1.0, False)
    """The same for a call that only reads, so that it may be repeated."""
    SLOW = ("the node did not answer in time, and may still carry out the call", JsonRpcCode.CALL_TIMED_OUT, 0.0, False)
    BUSY = ("the node has too much to do", JsonRpcCode.SERVER_BUSY, 1.0, False)
    LIMITED = ("the node's rate limit is reached", JsonRpcCode.RATE_LIMITED, 1.0, True)
    LOCKED_OUT = ("the node has locked the gateway out after failed logins", JsonRpcCode.SERVER_BUSY, 60.0, True)
    REFUSED = ("the node does not take the gateway's credentials", JsonRpcCode.SERVER_BUSY, 15.0, True)
    """Pausing keeps the node from locking the gateway out."""
    FORBIDDEN = ("the node denies this to the gateway's account", JsonRpcCode.PERMISSION_DENIED, 0.0, False)
    UNKNOWN = (
        "the node has not been reached yet, so that its dialect is not known",
        JsonRpcCode.SERVER_BUSY,
        1.0,
        False,
    )
    UNREADABLE = ("the node's answer can't be read", JsonRpcCode.INTERNAL_ERROR, 0.0, False)
    TOO_LARGE = ("the node's answer is too large", JsonRpcCode.RESULT_TOO_LARGE, 0.0, False)


class UpstreamError(RpcError):
    """The node has not answered a call.

    Attributes:
        kind: why.
        pause: seconds for which the gateway had better not call at all.
    """

    def __init__(self, kind: UpstreamErrorKind, detail: str = "", retry: float | None = None) -> None:
        text, code, seconds, pauses = kind.value
        retry = seconds if retry is None else retry
        data: dict[str, Any] = {"upstream": kind.name.lower()}
        if retry:
            data["retry_after_ms"] = int(retry * 1000)
        start = "Server busy: " if code == JsonRpcCode.SERVER_BUSY else ""
        text = start + text if start else text[0].upper() + text[1:]
        super().__init__(code, f"{text}: {detail}" if detail else text, data)
        self.kind = kind
        self.pause = retry if pauses else 0.0


def trouble(error: BaseException) -> UpstreamErrorKind | None:
    """Return the cause of an error, or None if the node has answered, even with an error."""
    return error.kind if isinstance(error, UpstreamError) else None
