"""What a handler may know of the call that it answers, and of the client behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..util.clock import Deadline
from .later import Later

__all__ = ["CallContext", "Session"]


class Session:
    """One client, for as long as it is connected.

    Attributes:
        connection_id: the number of its connection; never used twice by one server.
        address: its IP address and port.
        user: its name once it has authenticated, else None.
        rights: what it may do, bits of `Permission`; everything where the server has no users.
        admitted: whether it may call at all: it has authenticated, or need not.
        codec: the encoding of its messages (`protocol.framing.Codec`); None for JSON.
        limited: whether rate limits hold for it.
        origin: what limits by address count it as: its address, or the IPv6 network of that.
        failures: its failed logins.
        strikes: its calls refused in a row for their rate.
    """

    __slots__ = (
        "address",
        "admitted",
        "codec",
        "connection_id",
        "failures",
        "limited",
        "origin",
        "rights",
        "strikes",
        "user",
    )

    def __init__(self, connection_id: int, address: tuple[str, int], user: str | None = None) -> None:
        self.connection_id = connection_id
        self.address = address
        self.user = user
        self.rights = 0xFFFFFFFF
        self.admitted = True
        self.codec: Any = None
        self.limited = False
        self.origin = address[0]
        self.failures = 0
        self.strikes = 0

    def __repr__(self) -> str:
        return f"<Session {self.connection_id} of {self.user or 'nobody'} at {self.address[0]}:{self.address[1]}>"


class CallContext:
    """The call that a handler is answering. A handler gets it by having a parameter with this annotation.

    Attributes:
        session: the client that called.
        method: the name that it called.
        id: the call's id as Python has it (a number or a string), None for a notification or a null id.
        is_notification: whether no answer is wanted.
        deadline: when the client will be told that the call timed out; work beyond it is lost.
    """

    __slots__ = ("_hooks", "deadline", "id", "is_notification", "method", "session")

    def __init__(
        self,
        session: Session,
        method: str,
        id: Any,
        is_notification: bool,
        deadline: Deadline,
        hooks: list[Callable[[bool], None]] | None = None,
    ) -> None:
        self._hooks = [] if hooks is None else hooks
        self.session = session
        self.method = method
        self.id = id
        self.is_notification = is_notification
        self.deadline = deadline

    def on_answer(self, hook: Callable[[bool], None]) -> None:
        """Has a function called once the answer is on its way: what it sends comes behind the answer.

        Args:
            hook: gets True; or False where the client has been told something else, such as that the call timed out. It
                must be quick: it may run in the leading thread.
        """
        self._hooks.append(hook)

    def later(self) -> Later:
        """An answer to be given later; the handler returns it instead of a result. No thread waits meanwhile.

        Calls in a batch can't have one: there the client is told to send the call by itself.
        """
        return Later()

    @property
    def user(self) -> str | None:
        """The user who called, None where nobody authenticated."""
        return self.session.user

    @property
    def connection_id(self) -> int:
        """The connection that called, as `WebSocketServer.send` takes it."""
        return self.session.connection_id
