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

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from ..util.clock import Clock, Deadline, monotonic
from . import messages
from .calls import BatchCall, Hooks, SingleCall, result_too_large
from .context import CallContext, Session
from .later import Later
from .messages import Request
from .method import Method, Speed
from .table import RpcTable

__all__ = ["BatchCall", "Dispatcher", "Guard", "SingleCall"]

logger = logging.getLogger("dilithion_ws.rpc")

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
        self._slow_after, self._result_size = limits.calls.slow_after, limits.messages.result_size
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
        pace = Speed.DECLARED_FAST if method is None else method.pace
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
    ) -> bytes | Later | None:
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
                context = self._context(request, session, arrived, hooks)
            arguments, keywords = binder.bind(request.params, context)
            started = self.clock()
            try:
                value = method.function(*arguments, **keywords) if keywords else method.function(*arguments)
                if value.__class__ is Later:
                    value.encode_by(lambda outcome: self._settled(request, method, session, outcome, hooks, position))
                    return value
                result = messages.encode_result(value)
            finally:
                method.took(self.clock() - started, self._slow_after)
            if len(result) > self._result_size:
                raise result_too_large(len(result), self.limits)
        except BaseException as fault:  # a worker must outlive every handler, SystemExit included
            return self._failed(request, method, session, fault, hooks)
        method.succeeded += 1
        id = request.id
        return messages.success_answer(id, result, position) if id else None

    def execute_all(
        self, calls: Sequence[tuple[Request, Method]], session: Session, arrived: float
    ) -> list[bytes | None]:
        """Runs requests whose methods have the same `batch`, all at once; the answer of each. Never raises."""
        method = calls[0][1]
        hooks: Hooks = []
        contexts = [(self._context(request, session, arrived, hooks), request.params) for request, _ in calls]
        started = self.clock()
        try:
            outcomes = list(method.batch(contexts))
            if len(outcomes) != len(calls):
                raise RuntimeError(f"{len(calls)} calls of a batch have {len(outcomes)} outcomes")
        except BaseException as fault:
            error = fault if isinstance(fault, RpcError) else _incident(method.name, session, fault)
            outcomes = [error] * len(calls)
        for _, one in calls:
            one.took((self.clock() - started) / len(calls), self._slow_after)
        return [
            self._settled(request, one, session, outcome, [])
            for (request, one), outcome in zip(calls, outcomes, strict=True)
        ]

    def _context(self, request: Request, session: Session, arrived: float, hooks: Hooks) -> CallContext:
        deadline = Deadline.until(self.clock, arrived + self.limits.calls.call_timeout)
        return CallContext(
            session, request.method, messages.id_value(request), request.is_notification, deadline, hooks
        )

    def _settled(
        self, request: Request, method: Method, session: Session, outcome: Any, hooks: Hooks, position: Any = None
    ) -> bytes | None:
        """The answer to a request whose outcome is a result or an exception."""
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            result = messages.encode_result(outcome)
            if len(result) > self._result_size:
                raise result_too_large(len(result), self.limits)
        except BaseException as fault:
            return self._failed(request, method, session, fault, hooks)
        method.succeeded += 1
        return messages.success_answer(request.id, result, position) if request.id else None

    def _failed(
        self, request: Request, method: Method | None, session: Session, fault: BaseException, hooks: Hooks
    ) -> bytes | None:
        for hook in hooks:
            hook(False)
        hooks.clear()
        error = fault if isinstance(fault, RpcError) else _incident(request.method, session, fault)
        if method is not None:
            method.failed(error.code)
        if request.is_notification:
            return None
        answer = messages.error_answer(request.id, error)
        if len(answer) > self.limits.messages.result_size:
            answer = messages.error_answer(request.id, result_too_large(len(answer), self.limits))
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
