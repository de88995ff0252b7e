"""What the transport requires of the application. The transport itself knows no JSON and no users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from ..errors import CloseStatus
from ..protocol.handshake import UpgradeRequest
from ..protocol.http import Headers, HttpHead, HttpRefusal, HttpRequest, HttpResponse
from ..protocol.message_encoder import Codec
from ..session import Session
from ..util.enums import Speed, TaskKind
from ..util.futures import Future

__all__ = ["Accepted", "Address", "Admission", "EarlierBroadcasts", "RawReply", "Reply", "Service", "Task"]

Address = tuple[str, int]
"""IP address and port of a client."""

R = TypeVar("R", covariant=True)


class RawReply(msgspec.Struct, gc=False):
    """A message to send as it is: an opcode and a payload."""

    opcode: int
    payload: bytes


Reply = bytes | RawReply
"""The answer to a WebSocket message: JSON, or a message to send as it is."""


class Accepted(msgspec.Struct, frozen=True):
    """The decision to let a client in.

    Attributes:
        session: its session; each of its messages is passed on with it.
        headers: for the 101 response.
        check_after: seconds until `Service.on_deadline` decides whether the client may stay; infinity for never.
        codec: the encoding of its messages, or None for JSON.
    """

    session: Session
    headers: Headers
    check_after: float
    codec: Codec | None = None


class Admission(msgspec.Struct, frozen=True):
    """The decision, made at the head of an HTTP request, to answer the request once its body was received.

    Attributes:
        session: the client.
        route: what will answer it; it means nothing to the transport.
        headers: of refusals by the transport, which a page of an allowed origin may read like other responses.
    """

    session: Session
    route: Any
    headers: Headers = ()


class Task(Protocol[R]):
    """Work whose duration is not known: a call, a batch, an HTTP request, the verification of a password.

    The transport decides which thread runs it, and ends it at its deadline. The type R is what the task results in: a
    `Reply` for a WebSocket message, an `HttpResponse` or `Admission` for an HTTP request, `Accepted` or `HttpRefusal` for
    an upgrade.
    No method raises.

    Attributes:
        speed: how long it may take.
        is_serial: whether the client's next message must wait for its end.
        kind: whose threads run it.
        timeout: seconds until its deadline, or None for the limit `call_timeout`.
        session: the client.
        hooks: functions to call once the result was queued (True) or is known never to be (False), or None.
    """

    @property
    def speed(self) -> Speed: ...

    @property
    def is_serial(self) -> bool: ...

    @property
    def kind(self) -> TaskKind: ...

    @property
    def timeout(self) -> float | None: ...

    @property
    def session(self) -> Session: ...

    @property
    def hooks(self) -> Sequence[Callable[[bool], None]] | None: ...

    def run(self) -> R | Task[R] | Future[Any] | None:
        """Do the work. It may take forever.

        Returns:
            The result; None for no answer; a future of either, if it is not there yet; or another task, which is
            treated like a new one.
        """

    def refuse(self, reason: str) -> R | None:
        """Return the result to use if no worker can run the task."""

    def expire(self) -> R | None:
        """Return the result to use when the deadline has passed. `run` may still be in progress."""

    def on_stall(self) -> None:
        """Record that the task has held up the leading thread."""


class Service(Protocol):
    """The application. Its methods run in the leading thread, so they must be fast: slow work goes into a `Task`.

    No method raises.
    """

    def check_connection(self, host: str) -> HttpRefusal | None:
        """Return why an address may not connect now, or None if it may. Runs in the acceptor thread too."""

    def upgrade(
        self, connection_id: int, address: Address, request: UpgradeRequest, certificate: bytes = b""
    ) -> HttpRefusal | Accepted | Task[HttpRefusal | Accepted]:
        """Decide on an upgrade, or return the task that decides.

        Args:
            connection_id, address: the client.
            request: what it asks for.
            certificate: the SHA-256 of its verified TLS certificate, or empty.
        """

    def admit(
        self, connection_id: int, address: Address, head: HttpHead, certificate: bytes = b""
    ) -> HttpResponse | Admission | Task[HttpResponse | Admission]:
        """Decide at the head of a request: answer it, have its body received, or return the task that decides."""

    def http(self, admission: Admission, request: HttpRequest) -> HttpResponse | Task[HttpResponse]:
        """Answer an ordinary request, or return the task that does."""

    def login_priority(self, session: Session) -> int:
        """Return the priority of a client's logins, 0 to 2. Higher ones go first."""

    def on_open(self, session: Session) -> None:
        """Called when a connection is open: from now on messages can be sent to it."""

    def on_received(self, session: Session, size: int, frames: int) -> None:
        """Called with the bytes and frames received, before they are answered. Rate-limited connections only."""

    def receive(self, session: Session, opcode: int, payload: bytes) -> Reply | Task[Reply] | None:
        """Return the answer to a message, the task that leads to it, or None for no answer."""

    def may_ping(self, session: Session) -> bool:
        """Return whether a ping is answered."""

    def on_deadline(self, session: Session) -> CloseStatus | float:
        """Called when `Accepted.check_after` has passed.

        Returns:
            How to close the connection; or after how many seconds to ask again, infinity for never.
        """

    def on_writable(self, session: Session) -> None:
        """Called when a client has accepted everything that was buffered for it."""

    def on_closed(self, session: Session, status: CloseStatus) -> None:
        """Called at the end of each connection that was open."""


class EarlierBroadcasts(Protocol):
    """What the host has sent to all clients; implemented by `Broadcasts`.

    Attributes:
        head: the number of the newest one.
    """

    head: int

    def deliver(self, connection: Any) -> bool:
        """Send a client those that it has not got yet."""
