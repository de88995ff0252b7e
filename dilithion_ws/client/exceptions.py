"""Exceptions of the client. An error that the server returns for a call is an `RpcError`."""

from __future__ import annotations

from ..errors import DilithionWsError
from .places import AfterBlock, Place

__all__ = [
    "CallTimeoutError",
    "CertificateError",
    "ClientError",
    "ConnectionLostError",
    "EventsLostError",
    "RefusedError",
]


class ClientError(DilithionWsError):
    """Base of the exceptions below."""


class ConnectionLostError(ClientError):
    """The connection was lost, or could not be made in time. The server may have executed a call without an answer."""


class RefusedError(ClientError):
    """The server refuses this client, because of its credentials, Host or Origin.

    Attributes:
        status: the HTTP status, or the close code.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the server refused the connection: {status} {text}".rstrip())
        self.status = status


class CertificateError(ClientError):
    """The server's certificate cannot be verified, or it is not of this server."""


class CallTimeoutError(ClientError, TimeoutError):
    """No answer arrived in time. The server may still execute the call."""


class EventsLostError(ClientError):
    """Events were published that this subscription will never receive. It continues after them when it is read again.

    Attributes:
        topic: of the subscription.
        reason: `expired` (the server no longer had them), `epoch` (its log is a new one), `ahead`, `gap`, or why a chain
            could not be followed.
        last: the place after which events are missing.
        now: the place after which the subscription continues.
    """

    def __init__(self, topic: str, reason: str, last: Place, now: Place) -> None:
        super().__init__(f"events of {topic} are lost after {_shown(last)} ({reason}); continuing after {_shown(now)}")
        self.topic = topic
        self.reason = reason
        self.last = last
        self.now = now


def _shown(place: Place) -> str:
    return f"block {place.height}" if isinstance(place, AfterBlock) else str(place.seq)
