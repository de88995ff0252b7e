"""Messages that a task answers: those for the host's handler, `on_message`, large ones, and those of a host's codec."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from ..auth.denial import Denial
from ..errors import JsonRpcCode, RpcError
from ..net.interfaces import RawReply, Reply, Task
from ..protocol.frames import BINARY, TEXT
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.executor import Executor
from ..rpc.messages import NULL_ID, Request, error_answer
from ..session import Session
from ..util.enums import Speed, TaskKind

__all__ = ["LargeMessage", "MessageHandler", "RawMessageCall", "RpcReceiver"]

logger = logging.getLogger("dilithion_ws")

MessageHandler = Callable[[Session, str | bytes], Any]
"""Gets a session and a message. Its result is sent back; None sends nothing; NotImplemented leaves it to JSON-RPC."""


_UNKNOWN = Request("", b"", NULL_ID)
"""A message that was not parsed."""


class RpcReceiver(Protocol):
    """What answers a message that the handler leaves to JSON-RPC."""

    def receive_rpc(
        self, session: Session, opcode: int, payload: bytes, denial: Denial | None = None
    ) -> bytes | SingleCall | BatchCall | None: ...


class LargeMessage:
    """The task that parses a message that is large, or that code of the host has to decode.

    It is serial, so the messages of a client stay in order.

    Args:
        rpc: answers the message.
        executor: writes the errors.
        session: the client.
        opcode, payload: the message.
        denial: why nothing in it may be called, or None.
    """

    __slots__ = ("_denial", "_executor", "_opcode", "_payload", "_rpc", "session")

    speed = Speed.SLOW
    is_serial = True
    kind = TaskKind.REQUEST
    hooks = None
    timeout = None

    def __init__(
        self,
        rpc: RpcReceiver,
        executor: Executor,
        session: Session,
        opcode: int,
        payload: bytes,
        denial: Denial | None,
    ) -> None:
        self._rpc = rpc
        self._executor = executor
        self.session = session
        self._opcode = opcode
        self._payload = payload
        self._denial = denial

    def run(self) -> bytes | SingleCall | BatchCall | None:
        """Parse the message. Return its answer, or the call that it is."""
        return self._rpc.receive_rpc(self.session, self._opcode, self._payload, self._denial)

    def refuse(self, reason: str) -> bytes | None:
        """Return the error if no worker can parse it."""
        return self._executor.busy(_UNKNOWN, reason)

    def expire(self) -> bytes | None:
        """Return the error after the deadline."""
        return self._executor.timed_out(_UNKNOWN)

    def on_stall(self) -> None:
        """Do nothing: it never runs in the leading thread."""


class RawMessageCall:
    """The task that passes one message to the handler. It is serial, so the messages of a client stay in order.

    Args:
        handler: the host's handler.
        rpc: answers the message if the handler does not.
        session: the client.
        opcode, payload: the message.
    """

    __slots__ = ("_handler", "_opcode", "_payload", "_rpc", "session")

    speed = Speed.MEASURED_FAST
    is_serial = True
    kind = TaskKind.CALL
    hooks = None
    timeout = None

    def __init__(
        self, handler: MessageHandler, rpc: RpcReceiver, session: Session, opcode: int, payload: bytes
    ) -> None:
        self._handler = handler
        self._rpc = rpc
        self.session = session
        self._opcode = opcode
        self._payload = payload

    def run(self) -> Reply | Task[Reply] | None:
        """Call the handler. An exception is logged, and nothing is sent."""
        message = self._payload.decode() if self._opcode == TEXT else self._payload
        try:
            answer = self._handler(self.session, message)
            if answer is NotImplemented:
                return self._rpc.receive_rpc(self.session, self._opcode, self._payload)
            if answer is None:
                return None
            if isinstance(answer, str):
                return answer.encode()
            return RawReply(BINARY, bytes(answer))
        except BaseException:
            logger.exception("on_message failed for %r", self.session)
            return None

    def refuse(self, reason: str) -> bytes | None:
        """Return JSON-RPC's answer if the message is a call. Raw messages have no form for it, so it is logged."""
        if self.session.has_host_codec:  # its codec must not run here
            error = RpcError(JsonRpcCode.SERVER_BUSY, f"Server busy: {reason}", {"retry_after_ms": 1000})
            return error_answer(NULL_ID, error)
        call = self._rpc.receive_rpc(self.session, self._opcode, self._payload)
        if isinstance(call, (SingleCall, BatchCall)):
            return call.refuse(reason)
        logger.error("a message of %r was not handled: %s", self.session, reason)
        return None

    def expire(self) -> None:
        """Log it. The connection will be closed."""
        logger.error("on_message has not returned for a message of %r", self.session)

    def on_stall(self) -> None:
        """Do nothing: the next message may be a fast one."""
