"""From a received message to its answer: finds the method, runs it, and turns whatever happens into an answer.

The dispatcher runs no threads. `receive` answers at once what needs no handler, and returns a call otherwise; who runs
the call, where and when, is the transport's decision, for which `pace` tells how long it may take. A call's `run` never
raises, whatever the handler does.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..clock import Clock, Deadline, monotonic
from ..config import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from . import messages
from .context import CallContext, Session
from .messages import Request
from .table import Method, Pace, RpcTable

__all__ = ["BatchCall", "Dispatcher", "Guard", "SingleCall"]

logger = logging.getLogger("dilithion_ws.rpc")

Hooks = list[Callable[[bool], None]]

_RETRY_MS = 1000


class Guard(Protocol):
    """Decides what a client may call."""

    def refusal(self, session: Session, name: str, method: Method | None) -> RpcError | None:
        """Why a client may not call a method (None where the table has none of this name); None where it may."""

    def malformed(self, session: Session) -> RpcError | None:
        """Asked about what is no request, so that it is counted too; see `refusal`."""


class Dispatcher:
    """Answers JSON-RPC messages from a table of methods.

    Args:
        table: the methods.
        guard: asked about every call, each of a batch by itself; None allows all.
        own: methods of the server itself; a host's method of the same name comes second.
        position: where a topic's log is, for methods that were registered with `position_of`.
        limits: batch, result, depth and time limits.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        table: RpcTable,
        limits: Limits,
        clock: Clock = monotonic,
        guard: Guard | None = None,
        own: Mapping[str, Method] | None = None,
        position: Callable[[str], Any] = lambda topic: None,
    ) -> None:
        self.table = table
        self._guard = guard
        self._own = own or {}
        self.position = position
        self.limits = limits
        self._slow_after, self._result_size = limits.slow_after, limits.result_size
        self.clock = clock

    def receive(
        self, message: bytes, session: Session, refusal: RpcError | None = None
    ) -> bytes | SingleCall | BatchCall | None:
        """What a message asks for.

        Args:
            message: one whole message.
            session: who sent it.
            refusal: why nothing in it may be called; None leaves that to the guard.

        Returns:
            The answer where no handler is needed, None where there is nothing to answer, else a call to be run.
        """
        if message[:1] != b"{" and message.lstrip(b" \t\r\n")[:1] == b"[":
            return self._receive_batch(message, session, refusal)
        found = self._find(message, session, refusal)
        if found.__class__ is not tuple:
            return found  # type: ignore[no-any-return]
        name, params, id, method = found
        pace = Pace.DECLARED_FAST if method is None else method.pace
        return SingleCall(name, params, id, self, method, session, self.clock(), pace)

    def _receive_batch(self, message: bytes, session: Session, refusal: RpcError | None) -> bytes | BatchCall | None:
        try:
            elements = messages.parse_batch(message, self.limits)
        except RpcError as error:
            return messages.error_answer(messages.NULL_ID, self._count(session, refusal) or error)
        items: list[bytes | tuple[Request, Method | None]] = []
        for element in elements:
            found = self._find(element, session, refusal, in_batch=len(elements) > 1)
            if isinstance(found, bytes):
                items.append(found)
            elif found is not None:
                items.append((Request(*found[:3]), found[3]))
        return BatchCall(self, items, session)

    def _find(self, message: bytes, session: Session, refusal: RpcError | None, *, in_batch: bool = False) -> Any:
        """Name, params and id of a call, and its method; or the answer to what is none, or not allowed; or None.

        (One tuple, and no type for it: this is on the way of every call.)
        """
        try:
            name, params, id = messages.parse_members(message, self.limits)
        except RpcError as error:
            is_json = error.code != JsonRpcCode.PARSE_ERROR
            id = messages.identify(message) if is_json else messages.NULL_ID
            return messages.error_answer(id, self._count(session, refusal) or error)
        method = self._own.get(name) or self.table.get(name)
        if refusal is None and method is not None and session.admitted and not session.limited:
            need = method.need
            if need > 0 and session.rights & need == need and not method.is_login:
                return name, params, id, method  # it has all rights, and nothing counts it: the guard need not be asked
        if refusal is None and self._guard is not None:
            refusal = self._guard.refusal(session, name, method)
        if refusal is None and in_batch and method is not None and method.is_login:
            # It would keep the few workers that check passwords, for as long as the calls behind it take.
            wrong = messages.invalid_request(f"{method.name} can't be part of a batch: send it by itself")
            refusal = self._count(session, None) or wrong
        if refusal is not None:
            return messages.error_answer(id, refusal) if id else None
        return name, params, id, method

    def _count(self, session: Session, refusal: RpcError | None) -> RpcError | None:
        """Has the guard count what is no request; returns why it may not even be told what is wrong with it."""
        return refusal if refusal is not None or self._guard is None else self._guard.malformed(session)

    def execute(
        self, request: Request, method: Method | None, session: Session, arrived: float, hooks: Hooks
    ) -> bytes | None:
        """Runs one request to its end; returns the answer, None for a notification. Never raises.

        Args:
            request, method, session: what is called, and by whom.
            arrived: when it came.
            hooks: an empty list, which gets what the handler wants called after the answer.
        """
        position = None
        try:
            if method is None:
                raise _unknown_method(request.method)
            if method.position_of is not None:
                position = self.position(method.position_of)  # before the handler looks: so that nothing falls between
            binder, context = method.binder, None
            if binder.wants_context:
                deadline = Deadline.until(self.clock, arrived + self.limits.call_timeout)
                id_value = messages.id_value(request)
                context = CallContext(session, method.name, id_value, request.is_notification, deadline, hooks)
            arguments, keywords = binder.bind(request.params, context)
            started = self.clock()
            try:
                value = method.function(*arguments, **keywords) if keywords else method.function(*arguments)
                result = messages.encode_result(value)
            finally:
                method.took(self.clock() - started, self._slow_after)
            if len(result) > self._result_size:
                raise _result_too_large(len(result), self.limits)
        except BaseException as fault:  # a worker must outlive every handler, SystemExit included
            return self._failed(request, method, session, fault, hooks)
        method.succeeded += 1
        id = request.id
        return messages.success_answer(id, result, position) if id else None

    def _failed(
        self, request: Request, method: Method | None, session: Session, fault: BaseException, hooks: Hooks
    ) -> bytes | None:
        for hook in hooks:
            hook(False)
        hooks.clear()
        error = fault if isinstance(fault, RpcError) else _incident(request.method, session, fault)
        if method is not None:
            method.errors[error.code] = method.errors.get(error.code, 0) + 1
        if request.is_notification:
            return None
        answer = messages.error_answer(request.id, error)
        if len(answer) > self.limits.result_size:
            answer = messages.error_answer(request.id, _result_too_large(len(answer), self.limits))
        return answer

    def timed_out(self, request: Request) -> bytes | None:
        """The answer to a call whose deadline has passed."""
        if request.is_notification:
            return None
        text = f"Call timed out: past the {limit_reached(self.limits, 'call_timeout')}"
        return messages.error_answer(request.id, RpcError(JsonRpcCode.CALL_TIMED_OUT, text))

    def busy(self, request: Request, reason: str) -> bytes | None:
        """The answer to a call that can't be taken now."""
        if request.is_notification:
            return None
        error = RpcError(JsonRpcCode.SERVER_BUSY, f"Server busy: {reason}", {"retry_after_ms": _RETRY_MS})
        return messages.error_answer(request.id, error)


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

    def run(self) -> bytes | None:
        """Runs the handler; returns the answer, None where none is wanted. Never raises."""
        hooks: Hooks = []
        answer = self._dispatcher.execute(self, self._method, self._session, self._arrived, hooks)
        self.hooks = hooks  # not before there is an answer for them
        return answer

    def refuse(self, reason: str) -> bytes | None:
        """The answer where the call can't be taken now."""
        return self._dispatcher.busy(self, reason)

    def expire(self) -> bytes | None:
        """The answer where the deadline has passed."""
        return self._dispatcher.timed_out(self)

    def stalled(self) -> None:
        """To be told when the call holds up its thread."""
        if self._method is not None:
            self._method.stalled(self._dispatcher.limits.slow_after)


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
        self.pace = max((method.pace for method in methods), default=Pace.DECLARED_FAST)
        if sum(method.mean for method in methods) > dispatcher.limits.slow_after:
            self.pace = Pace.SLOW

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
        for item in self._items:
            if self._expired:
                return None
            hooks: Hooks = []
            answer = item if isinstance(item, bytes) else self._execute(*item, hooks)
            if answer is not None:
                self._size += len(answer)
                self._answers.append(answer)
            self.hooks.extend(hooks)  # behind their answer: should the time be over in between
        return _join(self._answers)

    def _execute(self, request: Request, method: Method | None, hooks: Hooks) -> bytes | None:
        limits = self._dispatcher.limits
        self._running = method
        answer = self._dispatcher.execute(request, method, self._session, self._arrived, hooks)
        if answer is not None and self._size + len(answer) > limits.result_size:
            for hook in hooks:
                hook(False)
            hooks.clear()
            error = _result_too_large(self._size + len(answer), limits)
            return messages.error_answer(request.id, error)
        return answer

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
            self._running.stalled(self._dispatcher.limits.slow_after)


def _join(answers: list[bytes]) -> bytes | None:
    return b"[%b]" % b",".join(answers) if answers else None


def _result_too_large(size: int, limits: Limits) -> RpcError:
    text = f"Result too large: {size} bytes, past the {limit_reached(limits, 'result_size')}"
    return RpcError(JsonRpcCode.RESULT_TOO_LARGE, text, {"limit": limits.result_size, "size": size})


def _unknown_method(name: str) -> RpcError:
    return RpcError(
        JsonRpcCode.METHOD_NOT_FOUND,
        f"Method not found: {name[:64]}",
        error_code="RPC-METHOD-NOT-FOUND",
        recovery_steps=(
            "Check the spelling of the method",
            "Verify that this version of the node has it",
            "Call help for a list of methods",
        ),
    )


def _incident(method: str, session: Session, error: BaseException) -> RpcError:
    """Logs what a handler raised under a random id; only the id goes to the client."""
    incident = secrets.token_hex(4)
    logger.error("incident %s: %s, called by %r, failed", incident, method, session, exc_info=error)
    text = f"Internal error; the server's log has it as incident {incident}"
    return RpcError(JsonRpcCode.INTERNAL_ERROR, text, {"incident": incident})
