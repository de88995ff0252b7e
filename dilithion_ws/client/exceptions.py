"""What can go wrong for a client. Errors that the server answers a call with are `RpcError`."""

from __future__ import annotations

from ..errors import DilithionWsError
from ..events.log import Position

__all__ = ["CallTimeoutError", "ClientError", "ConnectionLostError", "EventsLostError", "RefusedError"]


class ClientError(DilithionWsError):
    """Root of the client's own errors."""


class ConnectionLostError(ClientError):
    """The connection is lost, or could not be made in time. A call that was under way may or may not have been done."""


class RefusedError(ClientError):
    """The server does not want this client as it is: wrong credentials, or a Host or Origin that is not allowed.

    Attributes:
        status: the HTTP status, or the close code.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the server refused the connection: {status} {text}".rstrip())
        self.status = status


class CallTimeoutError(ClientError, TimeoutError):
    """No answer came in time; the call may still be done."""


class EventsLostError(ClientError):
    """Events were published that this subscription will never see. It goes on behind them when it is read again.

    Attributes:
        topic: of the subscription.
        reason: `expired` (the server no longer had them), `epoch` (its log is a new one), `ahead`, or `gap`.
        last: behind which place events are missing.
        now: at which place it goes on.
    """

    def __init__(self, topic: str, reason: str, last: Position, now: Position) -> None:
        super().__init__(f"events of {topic} are lost behind {last.seq} ({reason}); going on behind {now.seq}")
        self.topic = topic
        self.reason = reason
        self.last = last
        self.now = now
