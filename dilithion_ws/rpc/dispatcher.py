"""Turn a received message into an answer, or into a call to run: parse it, find its method, ask whether it is allowed.

The dispatcher runs no handler and no thread. Which thread runs a call, and when, is decided by the transport, which knows
from the call's `speed` how long it may take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..auth.denial import Denial
from ..errors import JsonRpcCode, RpcError
from ..session import Session
from ..util.enums import RpcDialect, Speed
from . import messages
from .call_fast_path import is_plainly_allowed
from .calls import BatchCall, OversizedBatch, SingleCall
from .executor import Executor
from .method import Method
from .table import RpcTable

__all__ = ["Dispatcher", "Guard"]

DECLARED_FAST = Speed.DECLARED_FAST


class Guard(Protocol):
    """Decides what a client may call."""

    def check_call(self, session: Session, name: str, method: Method | None) -> Denial | None:
        """Return why a client may not call a method (None if there is none of this name), or None if it may."""

    def check_malformed(self, session: Session) -> Denial | None:
        """Count a message that is not a request. Return why the client does not even get an error for it, or None."""


class Dispatcher:
    """Understands JSON-RPC messages.

    Args:
        table: the host's methods.
        executor: runs the calls.
        guard: decides on every call, also on each of a batch; None allows everything.
        builtin: the server's own methods; they take precedence over the host's.
    """

    def __init__(
        self,
        table: RpcTable,
        executor: Executor,
        guard: Guard | None = None,
        builtin: Mapping[str, Method] | None = None,
    ) -> None:
        self.executor = executor
        self.table = table
        self._guard = guard
        self._builtin = builtin or {}
        self._limits = executor.limits
        self._clock = executor.clock

    @property
    def batch_limit(self) -> str:
        """The name of the limit for the size of batches."""
        return "core_batch_size" if self.table.dialect is RpcDialect.CORE else "batch_size"

    def receive(
        self, message: bytes, session: Session, denial: Denial | None = None
    ) -> bytes | SingleCall | BatchCall | None:
        """Parse and authorize one complete message.

        Args:
            message: its bytes.
            session: the client that sent it.
            denial: why nothing in it may be called; None leaves that decision to the guard.

        Returns:
            The answer if no handler is needed, None if nothing is to be answered, otherwise a call to run.
        """
        if message[:1] != b"{" and message.lstrip(b" \t\r\n")[:1] == b"[":
            return self._receive_batch(message, session, denial)
        return self._find(message, session, denial, in_batch=False)

    def refuse_large(self, message: bytes, session: Session, denial: Denial | None = None) -> bytes | None:
        """Return the error for a large message with too many or too deep values, before it is parsed, or None."""
        try:
            messages.check_shape(message, self._limits)
        except RpcError as error:
            return messages.error_answer(messages.NULL_ID, self._malformed(session, denial) or error)
        return None

    def _receive_batch(self, message: bytes, session: Session, denial: Denial | None) -> bytes | BatchCall | None:
        try:
            elements = messages.parse_batch(message, self._limits, self.batch_limit)
        except RpcError as error:
            denied = self._malformed(session, denial)
            if denied is None and error.code == JsonRpcCode.BATCH_TOO_LARGE:
                return OversizedBatch(self.executor, session, message, error)
            return messages.error_answer(messages.NULL_ID, denied or error)
        found = [self._find(element, session, denial, in_batch=len(elements) > 1) for element in elements]
        return BatchCall(self.executor, session, [item for item in found if item is not None])

    def _find(
        self, message: bytes, session: Session, denial: Denial | None, *, in_batch: bool
    ) -> SingleCall | bytes | None:
        """Return the call that a request asks for, the answer if it is malformed or denied, or None."""
        try:
            name, params, id = messages.parse_members(message, self._limits)
        except RpcError as error:
            is_json = error.code != JsonRpcCode.PARSE_ERROR
            id = messages.extract_id(message) if is_json else messages.NULL_ID
            return messages.error_answer(id, self._malformed(session, denial) or error)
        method = self._builtin.get(name) or self.table.get(name)
        if denial is None and method is not None and is_plainly_allowed(session, method):
            return SingleCall(name, params, id, method, session, self._clock(), None, self.executor, method.speed)
        if denial is None and self._guard is not None:
            denial = self._guard.check_call(session, name, method)
        if denial is not None:
            refusal = self._denied(session, denial)
            return messages.error_answer(id, refusal) if id else None
        if in_batch and method is not None and method.is_login:
            # It would occupy one of the few workers that verify passwords for as long as the calls after it take.
            text = f"{method.name} can't be part of a batch: send it by itself"
            refusal = self._malformed(session, None) or messages.invalid_request(text)
            return messages.error_answer(id, refusal) if id else None
        speed = DECLARED_FAST if method is None else method.speed
        return SingleCall(name, params, id, method, session, self._clock(), None, self.executor, speed)

    def _malformed(self, session: Session, denial: Denial | None) -> RpcError | None:
        """Count a message that is not a request. Return the error if the client is denied even that one."""
        if denial is None and self._guard is not None:
            denial = self._guard.check_malformed(session)
        return None if denial is None else self._denied(session, denial)

    def _denied(self, session: Session, denial: Denial) -> RpcError:
        """Return the error for a denial, and record it in the session, also whether the connection must be closed."""
        session.denial = denial
        if denial.close_after is not None:
            session.close_after = denial.close_after
        return denial.to_rpc_error()
