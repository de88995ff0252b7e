"""Run a call whose method is known, and turn whatever happens into an answer."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..config.limits import Limits, limit_reached
from ..errors import JsonRpcCode, RpcError
from ..session import Session
from ..util.clock import Clock, Deadline, monotonic
from ..util.futures import Future, convert_future
from . import messages
from .context import CallContext, Hooks
from .messages import Request
from .method import Method

__all__ = ["Executor", "Invocation", "PositionSource", "result_too_large"]

logger = logging.getLogger("dilithion_ws.rpc")

_BUSY_RETRY_MS = 1000


class PositionSource(Protocol):
    """Knows the logs of topics. Answers of methods with `position_of` carry a position of it."""

    def position_of(self, topic: str) -> Any:
        """Return the position of a topic's log as JSON members, or None if the topic does not exist."""


class Invocation(Request, gc=True):
    """A request, and what is needed to run it.

    Attributes:
        target: the method, or None if there is none of this name.
        session: the client that called.
        arrived_at: when the call arrived, in seconds of the server's clock.
        error: the error that the call failed with, or None.
    """

    target: Method | None
    session: Session
    arrived_at: float
    error: RpcError | None


class Executor:
    """Runs calls. No method of it raises, whatever a handler does.

    Args:
        limits: time and size limits.
        clock: seconds that never go backwards.
        positions: the logs of topics, or None if there are none.
        timeouts: configured timeouts in seconds, by method.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock = monotonic,
        positions: PositionSource | None = None,
        timeouts: Mapping[str, float] | None = None,
    ) -> None:
        self._timeouts = timeouts or {}
        self.limits = limits
        self.clock = clock
        self.slow_method_threshold = limits.calls.slow_method_threshold
        self._positions = positions
        self._max_result_size = limits.messages.result_size

    def execute(self, call: Invocation, hooks: Hooks) -> bytes | Future[bytes | None] | None:
        """Run one call to its end.

        Args:
            call: what to run.
            hooks: an empty list; the handler's `on_answer` functions are added to it.

        Returns:
            The answer, None for a notification, or a future of either if the handler returned a future.
        """
        method, position = call.target, None
        try:
            if method is None:
                raise _unknown_method(call.method)
            if method.position_of is not None and self._positions is not None:
                # Taken before the handler reads the host's state, so that no event falls in between.
                position = self._positions.position_of(method.position_of)
            binder, context = method.binder, None
            if binder.needs_context:
                context = self._context(call, hooks)
            arguments, keywords = binder.bind(call.params, context)
            started = self.clock()
            try:
                value = method.function(*arguments, **keywords) if keywords else method.function(*arguments)
                if isinstance(value, Future):
                    return convert_future(value, lambda outcome: self._finish(call, method, outcome, hooks, position))
                result = messages.encode_result(value)
            finally:
                method.record_duration(self.clock() - started, self.slow_method_threshold)
            if len(result) > self._max_result_size:
                raise result_too_large(len(result), self.limits)
        except BaseException as fault:  # a worker must survive every handler, SystemExit included
            return self._fail(call, method, fault, hooks)
        method.succeeded += 1
        id = call.id
        return messages.success_answer(id, result, position) if id else None

    def execute_batch(self, calls: Sequence[Invocation]) -> list[bytes | None]:
        """Run calls whose methods have the same batch handler. Return the answer of each."""
        method = calls[0].target
        assert method is not None
        assert method.batch_handler is not None
        hooks: Hooks = []
        contexts = [(self._context(call, hooks), call.params) for call in calls]
        started = self.clock()
        try:
            outcomes = list(method.batch_handler(contexts))
            if len(outcomes) != len(calls):
                raise RuntimeError(f"{len(calls)} calls of a batch have {len(outcomes)} outcomes")
        except BaseException as fault:
            error = fault if isinstance(fault, RpcError) else _internal_error(calls[0], fault)
            outcomes = [error] * len(calls)
        seconds = (self.clock() - started) / len(calls)
        answers = []
        for call, outcome in zip(calls, outcomes, strict=True):
            assert call.target is not None
            call.target.record_duration(seconds, self.slow_method_threshold)
            answers.append(self._finish(call, call.target, outcome, [], None))
        return answers

    def timeout_of(self, call: Invocation) -> float:
        """Return the seconds that a call has: as configured for its method, as the host has declared, or the limit."""
        declared = call.target.timeout if call.target is not None else None
        configured = self._timeouts.get(call.method, declared)
        return self.limits.calls.call_timeout if configured is None else configured

    def _context(self, call: Invocation, hooks: Hooks) -> CallContext:
        deadline = Deadline.until(self.clock, call.arrived_at + self.timeout_of(call))
        return CallContext(call.session, call.method, messages.id_value(call), call.is_notification, deadline, hooks)

    def _finish(self, call: Invocation, method: Method, outcome: Any, hooks: Hooks, position: Any) -> bytes | None:
        """Return the answer to a call whose outcome, a result or an exception, came later than its handler's return."""
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            result = messages.encode_result(outcome)
            if len(result) > self._max_result_size:
                raise result_too_large(len(result), self.limits)
        except BaseException as fault:
            return self._fail(call, method, fault, hooks)
        method.succeeded += 1
        return messages.success_answer(call.id, result, position) if call.id else None

    def _fail(self, call: Invocation, method: Method | None, fault: BaseException, hooks: Hooks) -> bytes | None:
        for hook in hooks:
            hook(False)
        hooks.clear()
        error = fault if isinstance(fault, RpcError) else _internal_error(call, fault)
        call.error = error
        if method is not None:
            method.record_error(error.code)
        if call.is_notification:
            return None
        answer = messages.error_answer(call.id, error)
        if len(answer) > self._max_result_size:
            answer = messages.error_answer(call.id, result_too_large(len(answer), self.limits))
        return answer

    def timed_out(self, request: Request) -> bytes | None:
        """Return the answer to a call whose deadline has passed."""
        if request.is_notification:
            return None
        limit = limit_reached(self.limits, "call_timeout")
        target = request.target if isinstance(request, Invocation) else None
        if isinstance(request, Invocation) and (seconds := self.timeout_of(request)) != self.limits.calls.call_timeout:
            limit = f"limit of {seconds:g} s for {request.method} (rpcwebsocketmethodtimeouts)"
        advice = ""
        if target is not None and target.only_reads is not None:
            advice = "; it only reads, and may be repeated" if target.only_reads else "; it may have been carried out"
        return messages.error_answer(
            request.id, RpcError(JsonRpcCode.CALL_TIMED_OUT, f"Call timed out: past the {limit}{advice}")
        )

    def busy(self, request: Request, reason: str) -> bytes | None:
        """Return the answer to a call that cannot be run now."""
        if request.is_notification:
            return None
        error = RpcError(JsonRpcCode.SERVER_BUSY, f"Server busy: {reason}", {"retry_after_ms": _BUSY_RETRY_MS})
        return messages.error_answer(request.id, error)


def result_too_large(size: int, limits: Limits) -> RpcError:
    """Return the error -32011, with the size and the limit."""
    text = f"Result too large: {size} bytes, past the {limit_reached(limits, 'result_size')}"
    return RpcError(JsonRpcCode.RESULT_TOO_LARGE, text, {"limit": limits.messages.result_size, "size": size})


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


def _internal_error(call: Invocation, error: BaseException) -> RpcError:
    """Log what a handler raised under a random id, and return an error that contains only the id."""
    incident = secrets.token_hex(4)
    logger.error("incident %s: %s, called by %r, failed", incident, call.method, call.session, exc_info=error)
    text = f"Internal error; the server's log has it as incident {incident}"
    return RpcError(JsonRpcCode.INTERNAL_ERROR, text, {"incident": incident})
