"""The answers to who comes too often or has not said who it is; the same over HTTP and WebSocket."""

from __future__ import annotations

import math

from ..errors import JsonRpcCode, RpcError
from ..protocol.http import Headers

__all__ = ["CHALLENGE", "LOCKED_OUT", "LOGIN_STEPS", "UNAUTHORIZED", "rate_limited", "retry_after"]

CHALLENGE = ((b"WWW-Authenticate", b'Basic realm="Dilithion RPC", charset="UTF-8"'),)
UNAUTHORIZED = "Unauthorized - Invalid or missing credentials"
LOCKED_OUT = "Too many failed authentication attempts. Try again later."
LOGIN_STEPS = ("Call authenticate with user and password", "Or send HTTP Basic credentials with the upgrade")
_RATE_STEPS = ("Wait for data.retry_after_ms", "Subscribe instead of polling", "Send fewer calls")


def rate_limited(text: str, wait: float) -> RpcError:
    """-32005, with the seconds to wait."""
    return RpcError(
        JsonRpcCode.RATE_LIMITED,
        text,
        {"retry_after_ms": max(1, math.ceil(wait * 1000))},
        error_code="RPC-RATE-LIMIT",
        recovery_steps=_RATE_STEPS,
    )


def retry_after(wait: float) -> Headers:
    """The header that tells the seconds to wait."""
    return ((b"Retry-After", b"%d" % math.ceil(wait)),)
