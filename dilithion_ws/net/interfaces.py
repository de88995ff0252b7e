"""What the transport needs from above: who answers, and how a call behaves. The transport knows no JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..protocol.http import Headers, HttpRequest, HttpResponse
from ..protocol.http_connection import HttpRefusal, UpgradeRequest
from ..protocol.message_encoder import Codec

__all__ = ["Answer", "Call", "HttpFuture", "HttpTask", "Service", "PendingAuthentication", "Waiting", "Accepted"]

Answer = bytes | tuple[int, bytes]
"""A payload for a text message, or an opcode and a payload."""


class Call(Protocol):
    """Work for a handler. No method raises. `run` may end in another call, which is then treated like a fresh one.

    Attributes:
        pace: how long it may take, 0 (said to be fast) to 3 (slow: to be run in the pool); 4 for a `QueuedJob`.
        serial: whether the next message of the same client must wait for its end.
        is_login: whether it checks a password, so that it waits among logins.
        hooks: to be called once the answer is on its way (True) or is known never to be (False); None or empty for none.
    """

    pace: int

    @property
    def hooks(self) -> Sequence[Callable[[bool], None]] | None: ...

    @property
    def serial(self) -> bool: ...

    @property
    def is_login(self) -> bool: ...

    def run(self) -> Answer | Call | None:
        """Does the work; may take for ever."""

    def refuse(self, reason: str) -> Answer | None:
        """The answer where the work can't be taken."""

    def expire(self) -> Answer | None:
        """The answer where the work took too long; `run` may still be going on."""

    def stalled(self) -> None:
        """Told when the work is holding up its thread."""


class Waiting(Call, Protocol):
    """An answer that is waited for without a thread: its pace is 4, and it is never run."""

    def deliver_to(self, deliver: Callable[[Answer | None], None]) -> None:
        """Says where the answer goes, from any thread; at once where it is there."""


class HttpFuture(Protocol):
    """The same over HTTP."""

    session: Any

    def deliver_to(self, deliver: Callable[[HttpResponse], None]) -> None:
        """Says where the response goes."""


class Accepted(NamedTuple):
    """The decision to let a client in.

    Attributes:
        session: what `receive` gets with each of the client's messages.
        headers: for the 101 response.
        seconds: when `overdue` is to be asked whether the client may stay; infinity for never.
        codec: the encoding of its messages; None for JSON.
        metered: whether `heard` is to be told of its bytes.
    """

    session: Any
    headers: Headers
    seconds: float
    codec: Codec | None = None
    metered: bool = True


class PendingAuthentication(Protocol):
    """A decision that takes a while, such as one about a password: to be run in the pool.

    Attributes:
        session: whom it is about.
    """

    session: Any

    def run(self) -> HttpRefusal | Accepted:
        """Decides. Does not raise."""


class HttpTask(Protocol):
    """An answer to an HTTP request that takes a while: to be worked out in the pool.

    Attributes:
        session: whose password this checks; None where it checks none.
    """

    session: Any

    def run(self) -> HttpResponse | HttpTask | HttpFuture:
        """Works it out, or does a part of it. Does not raise."""


class Service(Protocol):
    """Answers clients. `receive` must be quick: handlers run in `Call.run` only. No method raises."""

    def upgrade(
        self, connection_id: int, address: tuple[str, int], request: UpgradeRequest
    ) -> HttpRefusal | Accepted | PendingAuthentication:
        """Decides on an upgrade, or says that this takes a while."""

    def http(self, connection_id: int, address: tuple[str, int], request: HttpRequest) -> HttpResponse | HttpTask:
        """Answers a request that asks for no WebSocket, or says that this takes a while."""

    def overdue(self, session: Any) -> tuple[int, str] | None:
        """Close code and reason for a client that has not done in time what it had to; None where it may stay."""

    def opened(self, session: Any) -> None:
        """Told that a connection is open: it can be sent to."""

    def heard(self, session: Any, size: int) -> None:
        """Told of bytes that came from an open connection that is metered, before what is in them."""

    def receive(self, session: Any, opcode: int, payload: bytes) -> Answer | Call | None:
        """What to do with a message."""

    def may_ping(self, session: Any) -> bool:
        """Whether a ping is answered."""

    def standing(self, session: Any) -> int:
        """Whose logins go first: the higher ones."""

    def drained(self, session: Any) -> None:
        """Told that a client has taken all that waited for it."""

    def closed(self, session: Any, code: int, reason: str) -> None:
        """Told of the end of a connection that was opened."""
