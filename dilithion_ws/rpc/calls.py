"""A message that was understood: one call, or a batch of calls, to be run by whichever thread the transport chooses."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import RpcError
from ..session import Session
from ..util.enums import Speed, TaskKind
from ..util.futures import Future
from . import messages
from .context import Hooks
from .executor import Executor, Invocation, result_too_large
from .messages import Request
from .method import Method

__all__ = ["BatchCall", "OversizedBatch", "SingleCall"]

DECLARED_FAST, MEASURED_FAST, UNKNOWN, SLOW = Speed


class SingleCall(Invocation):
    """One request that needs its handler.

    It is a Struct, since one is made for every call.

    Attributes:
        executor: runs it.
        speed: how long it may take.
        hooks: to call once its answer was queued; set by `run`.
    """

    executor: Executor
    speed: Speed
    hooks: Hooks | None = None

    def __repr__(self) -> str:
        return f"<SingleCall {self.method}>"  # without params, which may contain a password

    @property
    def kind(self) -> TaskKind:
        """Whether the call verifies a password, or runs code of the host, and that for a moment only."""
        if self.target is None:
            return TaskKind.CALL
        if self.target.is_login:
            return TaskKind.LOGIN
        is_brief = self.target.takes_at_most(self.executor.limits.calls.brief_call_time)
        return TaskKind.BRIEF_CALL if is_brief else TaskKind.CALL

    @property
    def timeout(self) -> float | None:
        """Seconds until its deadline."""
        return self.executor.timeout_of(self)

    @property
    def is_serial(self) -> bool:
        """Whether the client's next message must wait for the end of this call, since it may depend on its login."""
        return self.target is not None and self.target.is_login

    def run(self) -> bytes | Future[bytes | None] | None:
        """Run the handler. Never raises.

        Returns:
            The answer, None if no answer is expected, or a future of either.
        """
        hooks: Hooks = []
        answer = self.executor.execute(self, hooks)
        self.hooks = hooks  # not before there is an answer that they belong to
        return answer

    def refuse(self, reason: str) -> bytes | None:
        """Return the answer to give if the call cannot be run now."""
        return self.executor.busy(self, reason)

    def expire(self) -> bytes | None:
        """Return the answer to give when the deadline has passed."""
        return self.executor.timed_out(self)

    def on_stall(self) -> None:
        """Record that the call holds up its thread."""
        if self.target is not None:
            self.target.record_stall(self.executor.slow_method_threshold)


class BatchCall:
    """The requests of one batch, run one after the other and answered together (JSON-RPC 2.0 section 6).

    A batch is one unit of work with one deadline: requests that have not ended by then are answered as timed out.

    Args:
        executor: runs the requests.
        session: the client.
        items: the requests to run, and the answers to elements that are not run, in the order of the batch.
    """

    __slots__ = ("_answers", "_executor", "_expired", "_items", "_running", "_size", "hooks", "session", "speed")

    def __init__(self, executor: Executor, session: Session, items: list[bytes | SingleCall]) -> None:
        self._executor = executor
        self.session = session
        self._items = items
        self._answers: list[bytes] = []
        self.hooks: Hooks = []
        self._size = 0
        self._expired = False
        self._running: Method | None = None
        methods = [call.target for call in items if isinstance(call, SingleCall) and call.target is not None]
        self.speed = max((method.speed for method in methods), default=DECLARED_FAST)
        if sum(method.mean for method in methods) > executor.slow_method_threshold:
            self.speed = SLOW

    @property
    def kind(self) -> TaskKind:
        """See `SingleCall.kind`. In a batch of several, a call that verifies a password is refused."""
        only = self._items[0] if len(self._items) == 1 else None
        return only.kind if isinstance(only, SingleCall) else TaskKind.CALL

    @property
    def timeout(self) -> float | None:
        """Seconds until its deadline: the longest of its calls'."""
        calls = [item for item in self._items if isinstance(item, SingleCall)]
        return max((self._executor.timeout_of(call) for call in calls), default=None)

    @property
    def is_serial(self) -> bool:
        """See `SingleCall.is_serial`."""
        return self.kind is TaskKind.LOGIN

    def run(self) -> bytes | None:
        """Run the requests in order. Never raises.

        Returns:
            The array of answers, or None if no answer is expected.
        """
        together: dict[int, bytes | None] = {}
        for index, item in enumerate(self._items):
            if self._expired:
                return None
            hooks: Hooks = []
            if isinstance(item, bytes):
                answer: bytes | None = item
            elif item.target is not None and item.target.batch_handler is not None:
                if index not in together:
                    together = self._execute_together(item.target)
                answer = together[index]
                if answer is not None and self._exceeds_limit(answer):
                    answer = self._too_large(item, answer)
            else:
                answer = self._execute(item, hooks)
            if answer is not None:
                self._size += len(answer)
                self._answers.append(answer)
            self.hooks.extend(hooks)  # after their answer, since the deadline may pass in between
        return _join(self._answers)

    def _execute(self, call: SingleCall, hooks: Hooks) -> bytes | None:
        self._running = call.target
        answer = self._executor.execute(call, hooks)
        if isinstance(answer, Future):
            answer.cancel()
            for hook in hooks:
                hook(False)
            hooks.clear()
            text = f"{call.method} waits, and can't be part of a batch: send it by itself"
            answer = None if call.is_notification else messages.error_answer(call.id, messages.invalid_request(text))
        if answer is not None and self._exceeds_limit(answer):
            for hook in hooks:
                hook(False)
            hooks.clear()
            return self._too_large(call, answer)
        return answer

    def _exceeds_limit(self, answer: bytes) -> bool:
        return self._size + len(answer) > self._executor.limits.messages.result_size

    def _too_large(self, request: Request, answer: bytes) -> bytes:
        return messages.error_answer(request.id, result_too_large(self._size + len(answer), self._executor.limits))

    def _execute_together(self, method: Method) -> dict[int, bytes | None]:
        """Run all requests that share a method's batch handler. Return their answers by index in the batch."""
        calls = {
            index: item
            for index, item in enumerate(self._items)
            if isinstance(item, SingleCall)
            and item.target is not None
            and item.target.batch_handler == method.batch_handler
        }
        return dict(zip(calls, self._executor.execute_batch(list(calls.values())), strict=True))

    def refuse(self, reason: str) -> bytes | None:
        """Return the answers to give if the batch cannot be run now."""
        return self._complete([], lambda request: self._executor.busy(request, reason))

    def expire(self) -> bytes | None:
        """Return the answers so far and a time-out for each other request. The result of a running call is discarded."""
        self._expired = True
        return self._complete(list(self._answers), self._executor.timed_out)

    def _complete(self, answers: list[bytes], answer: Callable[[Request], bytes | None]) -> bytes | None:
        # Answers are in the order of the items, and notifications have none.
        expected = [item for item in self._items if isinstance(item, bytes) or not item.is_notification]
        for item in expected[len(answers) :]:
            answers.append(item if isinstance(item, bytes) else answer(item) or b"")
        return _join(answers)

    def on_stall(self) -> None:
        """Record that the batch holds up its thread: against the running method, unless several calls took part in it."""
        if self._running is not None and len(self._answers) <= 1:
            self._running.record_stall(self._executor.slow_method_threshold)


class OversizedBatch(BatchCall):
    """A batch with too many requests, none of which is run. Each gets the error, so that no client waits for an answer.

    Args:
        executor: has the limits.
        session: the client.
        message: the batch.
        error: the error.
    """

    __slots__ = ("_error", "_message")

    kind = TaskKind.REQUEST

    def __init__(self, executor: Executor, session: Session, message: bytes, error: RpcError) -> None:
        super().__init__(executor, session, [])
        self._message = message
        self._error = error
        self.speed = SLOW  # it takes as long as the batch has requests

    def run(self) -> bytes | None:
        """Return an error for each request, or a single one if that would be no answer, or one that is too large."""
        ids = messages.batch_ids(self._message)
        start, _, _ = messages.error_answer(messages.NULL_ID, self._error).rpartition(messages.NULL_ID)
        size = len(ids) * len(start) + sum(map(len, ids))
        if not ids or size > self._executor.limits.messages.result_size:
            return self.refuse("")
        return _join([b"%b%b}" % (start, id) for id in ids])

    def refuse(self, reason: str) -> bytes | None:
        """Return the error for all of it."""
        return messages.error_answer(messages.NULL_ID, self._error)

    def expire(self) -> bytes | None:
        """Return the error for all of it."""
        return messages.error_answer(messages.NULL_ID, self._error)


def _join(answers: list[bytes]) -> bytes | None:
    return b"[%b]" % b",".join(answers) if answers else None
