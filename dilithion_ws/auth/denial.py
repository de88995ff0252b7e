"""The decision that a client may not do something: a value, on which transport and application act."""

from __future__ import annotations

import math
from enum import Enum

import msgspec

from ..errors import CloseStatus, JsonRpcCode, RpcError

__all__ = ["LOGIN_STEPS", "Denial", "DenialKind", "NeedsPassword"]

LOGIN_STEPS = ("Call authenticate with user and password", "Or send HTTP Basic credentials with the upgrade")
_PERMISSION_STEPS = ("Ask the operator for a role with this permission", "Use another user")
_RATE_STEPS = ("Wait for data.retry_after_ms", "Subscribe instead of polling", "Send fewer calls")


class DenialKind(Enum):
    """Why a client may not do something."""

    ADDRESS = "address"
    """Its address may not connect."""
    ORIGIN = "origin"
    """The page or the host name in its request may not use this server."""
    CREDENTIALS = "credentials"
    """Its password is wrong, or its credentials are malformed."""
    NOT_AUTHENTICATED = "not authenticated"
    """It has not logged in."""
    PERMISSION = "permission"
    """It lacks a permission."""
    RATE = "rate"
    """It calls, sends or connects too often."""
    LOCKED_OUT = "locked out"
    """Too many logins failed."""


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    Attributes:
        kind: why.
        message: one sentence for people.
        retry_after: seconds until the client may try again, or 0.
        permission: the missing permission, or "".
        close_after: how to close the connection after the answer, or None to leave it open.
    """

    kind: DenialKind
    message: str
    retry_after: float = 0.0
    permission: str = ""
    close_after: CloseStatus | None = None

    def to_rpc_error(self) -> RpcError:
        """Return the JSON-RPC error that a call is answered with."""
        if self.kind in (DenialKind.RATE, DenialKind.LOCKED_OUT):
            return RpcError(
                JsonRpcCode.RATE_LIMITED,
                self.message,
                {"retry_after_ms": max(1, math.ceil(self.retry_after * 1000))},
                error_code="RPC-RATE-LIMIT",
                recovery_steps=_RATE_STEPS,
            )
        if self.kind is DenialKind.PERMISSION:
            return RpcError(
                JsonRpcCode.PERMISSION_DENIED,
                self.message,
                {"permission": self.permission},
                error_code="RPC-PERMISSION-DENIED",
                recovery_steps=_PERMISSION_STEPS,
            )
        return RpcError(JsonRpcCode.NOT_AUTHENTICATED, self.message, recovery_steps=LOGIN_STEPS)


class NeedsPassword(msgspec.Struct, frozen=True):
    """The decision that a password must be verified first, which is slow: to be done in the pool."""

    name: str
    password: str

    def __repr__(self) -> str:
        return "<NeedsPassword>"
