"""An answer that is not there yet when the handler returns: no thread waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import Hooks, SingleCall

__all__ = ["Later"]

Deliver = Callable[[bytes | None], None]


class Later:
    """What a handler returns instead of a result, and gives the result to when it has one. Thread-safe.

    A handler gets one from `CallContext.later`. A client that has heard nothing by the call's deadline is told so;
    what comes after that is dropped.

    Attributes:
        done: whether there is an outcome already.
    """

    # To the transport this is a call that never needs a worker: see `net.service.Call`.
    pace = 4
    serial = False
    is_login = False

    def __init__(self) -> None:
        self._settling = threading.Lock()  # guards all below
        self.done = False
        self._outcome: Any = None
        self._encode: Callable[[Any], bytes | None] | None = None
        self._deliver: Deliver | None = None
        self._call: SingleCall | None = None

    def answer(self, result: Any) -> bool:
        """Answers the call, from any thread.

        Args:
            result: the result; an exception fails the call as if the handler had raised it.

        Returns:
            Whether this is what the call ends with: False where it had an outcome before.
        """
        with self._settling:
            if self.done:
                return False
            self.done = True
            self._outcome = result
        self._tell()
        return True

    def encode_by(self, encode: Callable[[Any], bytes | None]) -> None:
        """Says how an outcome becomes an answer; the dispatcher's part."""
        self._encode = encode

    def belongs_to(self, call: SingleCall) -> Later:
        """Says whose answer it is; the call's part."""
        self._call = call
        return self

    def deliver_to(self, deliver: Deliver) -> None:
        """Says where the answer goes, which may be there by now; the transport's part."""
        with self._settling:
            self._deliver = deliver
        self._tell()

    def _tell(self) -> None:
        with self._settling:
            if not self.done or self._deliver is None:
                return
            deliver, self._deliver = self._deliver, None
        assert self._encode is not None
        deliver(self._encode(self._outcome))

    @property
    def hooks(self) -> Hooks:
        """As a call has them."""
        return [] if self._call is None else list(self._call.hooks)

    def run(self) -> None:
        """Never asked for: there is nothing to run."""
        raise AssertionError("an answer that is waited for can't be run")

    def refuse(self, reason: str) -> bytes | None:
        """The answer where this one can't be sent."""
        return None if self._call is None else self._call.refuse(reason)

    def expire(self) -> bytes | None:
        """The answer where the deadline has passed."""
        return None if self._call is None else self._call.expire()

    def stalled(self) -> None:
        """Nothing is held up."""
