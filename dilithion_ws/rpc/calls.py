"""What a message asks for once it is understood: one call, or a batch of them, to be run by whoever has a thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from . import messages
from .context import Session
from .later import Later
from .messages import Request
from .method import Method, Speed

if TYPE_CHECKING:
    from .dispatcher import Dispatcher

__all__ = ["BatchCall", "Hooks", "SingleCall", "result_too_large"]

Hooks = list[Callable[[bool], None]]


class SingleCall(Request, gc=True):
    """One request that needs its handler. (A Struct, since one is made for every call.)"""

    _dispatcher: Dispatcher
    _method: Method | None
    _session: Session
    _arrived: float
    pace: int
    hooks: Sequence[Callable[[bool], None]] = ()

    def __repr__(self) -> str:
        return f"<SingleCall {self.method}>"  # no params, which may hold a password

    @property
    def is_login(self) -> bool:
        """Whether the call checks a password."""
        return self._method is not None and self._method.is_login

    @property
    def serial(self) -> bool:
        """Whether the client's next message must wait for the end of this one: what follows a login counts on it."""
        return self.is_login

    def run(self) -> bytes | Later | None:
        """Runs the handler; returns the answer, None where none is wanted. Never raises."""
        hooks: Hooks = []
        answer = self._dispatcher.execute(self, self._method, self._session, self._arrived, hooks)
        self.hooks = hooks  # not before there is an answer for them
        return answer.belongs_to(self) if answer.__class__ is Later else answer

    def refuse(self, reason: str) -> bytes | None:
        """The answer where the call can't be taken now."""
        return self._dispatcher.busy(self, reason)

    def expire(self) -> bytes | None:
        """The answer where the deadline has passed."""
        return self._dispatcher.timed_out(self)

    def stalled(self) -> None:
        """To be told when the call holds up its thread."""
        if self._method is not None:
            self._method.stalled(self._dispatcher.limits.calls.slow_after)


class BatchCall:
    """The requests of one batch, run one after the other, answered together (JSON-RPC 2.0 section 6).

    A batch is one unit of work with one deadline: what has not ended by then is answered as timed out.
    """

    __slots__ = (
        "_answers",
        "_arrived",
        "_dispatcher",
        "_expired",
        "_items",
        "_running",
        "_session",
        "_size",
        "hooks",
        "pace",
    )

    def __init__(
        self, dispatcher: Dispatcher, items: list[bytes | tuple[Request, Method | None]], session: Session
    ) -> None:
        self._dispatcher = dispatcher
        self._items = items
        self._session = session
        self._arrived = dispatcher.clock()
        self._answers: list[bytes] = []
        self.hooks: Hooks = []
        self._size = 0
        self._expired = False
        self._running: Method | None = None
        methods = [item[1] for item in items if isinstance(item, tuple) and item[1] is not None]
        self.pace = max((method.pace for method in methods), default=Speed.DECLARED_FAST)
        if sum(method.mean for method in methods) > dispatcher.limits.calls.slow_after:
            self.pace = Speed.SLOW

    @property
    def is_login(self) -> bool:
        """Whether the one call checks a password; among others such a call is refused."""
        return len(self._items) == 1 and any(
            isinstance(item, tuple) and item[1] is not None and item[1].is_login for item in self._items
        )

    @property
    def serial(self) -> bool:
        """See `SingleCall`."""
        return self.is_login

    def run(self) -> bytes | None:
        """Runs the requests in order; returns the array of answers, None where none is wanted. Never raises."""
        together: dict[int, bytes | None] = {}
        for at, item in enumerate(self._items):
            if self._expired:
                return None
            hooks: Hooks = []
            if isinstance(item, bytes):
                answer: bytes | None = item
            elif item[1] is not None and item[1].batch is not None:
                if at not in together:
                    together = self._execute_together(item[1])
                answer = together[at]
                if answer is not None and self._size + len(answer) > self._dispatcher.limits.messages.result_size:
                    answer = self._too_large(item[0], answer)
            else:
                answer = self._execute(*item, hooks)
            if answer is not None:
                self._size += len(answer)
                self._answers.append(answer)
            self.hooks.extend(hooks)  # behind their answer: should the time be over in between
        return _join(self._answers)

    def _execute(self, request: Request, method: Method | None, hooks: Hooks) -> bytes | None:
        limits = self._dispatcher.limits
        self._running = method
        answer = self._dispatcher.execute(request, method, self._session, self._arrived, hooks)
        if isinstance(answer, Later):
            wrong = messages.invalid_request(f"{request.method} waits, and can't be part of a batch: send it by itself")
            answer.answer(wrong)  # so that whoever was to give it knows that it is not waited for
            answer = None if request.is_notification else messages.error_answer(request.id, wrong)
        if answer is not None and self._size + len(answer) > limits.messages.result_size:
            for hook in hooks:
                hook(False)
            hooks.clear()
            return self._too_large(request, answer)
        return answer

    def _too_large(self, request: Request, answer: bytes) -> bytes:
        error = result_too_large(self._size + len(answer), self._dispatcher.limits)
        return messages.error_answer(request.id, error)

    def _execute_together(self, method: Method) -> dict[int, bytes | None]:
        """Runs all requests that go together with a method's; the answers by their place in the batch."""
        places, calls = [], []
        for at, item in enumerate(self._items):
            if isinstance(item, tuple) and item[1] is not None and item[1].batch == method.batch:
                places.append(at)
                calls.append((item[0], item[1]))
        answers = self._dispatcher.execute_all(calls, self._session, self._arrived)
        return dict(zip(places, answers, strict=True))

    def refuse(self, reason: str) -> bytes | None:
        """The answers where the batch can't be taken now."""
        return self._complete([], lambda request: self._dispatcher.busy(request, reason))

    def expire(self) -> bytes | None:
        """The answers there are, and a time-out for each request that has none; what still runs is discarded."""
        self._expired = True
        return self._complete(list(self._answers), self._dispatcher.timed_out)

    def _complete(self, answers: list[bytes], answer: Callable[[Request], bytes | None]) -> bytes | None:
        # Answers come in the order of the items, and notifications have none.
        wanted = [item for item in self._items if isinstance(item, bytes) or not item[0].is_notification]
        for item in wanted[len(answers) :]:
            answers.append(item if isinstance(item, bytes) else answer(item[0]) or b"")
        return _join(answers)

    def stalled(self) -> None:
        """To be told when the batch holds up its thread: by the method that runs now, or by all of them together."""
        if self._running is not None and len(self._answers) <= 1:
            self._running.stalled(self._dispatcher.limits.calls.slow_after)


def result_too_large(size: int, limits: Limits) -> RpcError:
    """-32011, with the size and the limit."""
    text = f"Result too large: {size} bytes, past the {limit_reached(limits, 'result_size')}"
    return RpcError(JsonRpcCode.RESULT_TOO_LARGE, text, {"limit": limits.messages.result_size, "size": size})


def _join(answers: list[bytes]) -> bytes | None:
    return b"[%b]" % b",".join(answers) if answers else None
