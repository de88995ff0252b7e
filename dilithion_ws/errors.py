"""The one tree of errors, and the two tables of codes that clients see.

`JsonRpcCode` is what an answer's `error.code` may hold, `CloseCode` what a close frame may hold. Both are contract:
clients branch on them, so a number here never changes its meaning.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

__all__ = [
    "CloseCode",
    "CloseStatus",
    "ConfigError",
    "ConnectionNotFoundError",
    "DilithionWsError",
    "EventError",
    "ForkError",
    "JsonRpcCode",
    "NotLeadingError",
    "NotRunningError",
    "OutboxFullError",
    "RegistrationError",
    "RpcError",
    "StartError",
    "UnknownTopicError",
]


class JsonRpcCode(IntEnum):
    """Values of `error.code`: JSON-RPC 2.0 section 5.1, and this server's own below -32000."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    NOT_AUTHENTICATED = -32001
    CALL_TIMED_OUT = -32002
    PERMISSION_DENIED = -32003
    RATE_LIMITED = -32005
    TOO_MANY_SUBSCRIPTIONS = -32006
    EVENTS_LOST = -32007
    SERVER_BUSY = -32009
    BATCH_TOO_LARGE = -32010
    RESULT_TOO_LARGE = -32011


class CloseCode(IntEnum):
    """Status codes of close frames: RFC 6455 section 7.4.1, the IANA registry, and this server's own (4000-4999)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """Never sent: what a close frame without a code is reported as."""
    ABNORMAL = 1006
    """Never sent: what the end of a stream without a close frame is reported as."""
    INVALID_PAYLOAD = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    FELL_BEHIND = 4108
    NOT_AUTHENTICATED = 4401


class CloseStatus(NamedTuple):
    """Code and reason of a close frame (RFC 6455 section 5.5.1)."""

    code: int
    reason: str


class DilithionWsError(Exception):
    """Root of all errors that this package raises on purpose."""


class ConfigError(DilithionWsError, ValueError):
    """A setting cannot be used. The message states the setting, its value and what is accepted.

    Attributes:
        keys: the keys of the configuration file that it is about.
    """

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


class StartError(DilithionWsError):
    """The server could not start. Nothing of it is left running."""


class NotRunningError(DilithionWsError):
    """The call needs a running server."""


class ForkError(DilithionWsError):
    """The process was forked after `start()`: the threads stayed in the parent, so the child must start its own."""


class ConnectionNotFoundError(DilithionWsError, LookupError):
    """No open connection has this id. It may have closed a moment ago."""


class UnknownTopicError(DilithionWsError, LookupError):
    """No topic has this name. The text names those that there are."""


class EventError(DilithionWsError, ValueError):
    """An event can't be published: it does not fit its topic's schema, can't be encoded, or is too large."""


class OutboxFullError(DilithionWsError):
    """The client does not read: what waits for it has reached the outbox limit, and the message was not queued."""


class NotLeadingError(DilithionWsError):
    """The event belongs to an expired term: another server leads this topic, or this one in a new term."""


class RegistrationError(DilithionWsError, TypeError):
    """A function can't be registered as an RPC method. The text says why."""


class RpcError(DilithionWsError):
    """What a handler raises to answer a call with an error of its own. It reaches the client unchanged.

    Args:
        code: `error.code`; the range -32768 to -32000 is reserved by JSON-RPC 2.0 section 5.1.
        message: `error.message`, one sentence.
        data: `error.data`, anything that JSON can hold; left out when None.
        error_code: the node's own name for the error, such as `RPC-METHOD-NOT-FOUND`; left out when None.
        recovery_steps: what the caller may try, as the node tells it; left out when empty.
    """

    def __init__(
        self,
        code: int,
        message: str,
        data: Any = None,
        *,
        error_code: str | None = None,
        recovery_steps: tuple[str, ...] = (),
    ) -> None:
        super().__init__(code, message, data)
        self.code = int(code)
        self.message = message
        self.data = data
        self.error_code = error_code
        self.recovery_steps = recovery_steps

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def to_object(self) -> dict[str, Any]:
        """The `error` member of an answer (JSON-RPC 2.0 section 5.1, with the node's two additions)."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        if self.error_code is not None:
            error["error_code"] = self.error_code
        if self.recovery_steps:
            error["recovery_steps"] = list(self.recovery_steps)
        return error
