"""What a handler may know about the call that it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..session import Session
from ..util.clock import Deadline

__all__ = ["CallContext", "Hooks"]

Hooks = list[Callable[[bool], None]]
"""Functions to call once an answer was queued (True), or once it is known that it never will be (False)."""


class CallContext(msgspec.Struct):
    """The call that a handler is answering. A handler receives it by a parameter with this annotation.

    Attributes:
        session: the client that called.
        method: the name that it called.
        id: the call's id as a Python value (a number or a string), or None for a notification or a null id.
        is_notification: whether no answer is expected.
        deadline: when the client gets the error that the call timed out; work beyond it is lost.
    """

    session: Session
    method: str
    id: Any
    is_notification: bool
    deadline: Deadline
    _hooks: Hooks = []

    def on_answer(self, hook: Callable[[bool], None]) -> None:
        """Call a function once the answer is queued, so that messages it sends arrive after the answer.

        Args:
            hook: gets True; or False if the client receives another answer, for example that the call timed out. It must
                be fast: it may run in the leading thread.
        """
        self._hooks.append(hook)

    @property
    def user(self) -> str | None:
        """The name of the user who called, or None if the client did not authenticate."""
        return self.session.user

    @property
    def wallet(self) -> str | None:
        """The wallet that the client has chosen by the path `/wallet/<name>`, or None."""
        return self.session.wallet

    @property
    def connection_id(self) -> int:
        """The connection that called, as `WebSocketServer.send` takes it."""
        return self.session.connection_id
