"""Between the transport and the host: which code of the host a message runs, and the host's callbacks."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from ..config.limits import Limits
from ..errors import RpcError, UnknownTopicError
from ..events.hub import EventHub
from ..events.subscriber import Subscriber
from ..net.interfaces import Accepted, Answer, Call, HttpTask, PendingAuthentication
from ..protocol.frames import BINARY, TEXT
from ..protocol.http import HttpRequest, HttpResponse
from ..protocol.http_connection import HttpRefusal, UpgradeRequest
from ..rpc.calls import BatchCall, SingleCall
from ..rpc.context import Session
from ..rpc.dispatcher import Dispatcher
from ..rpc.messages import NULL_ID, error_answer, identify, parse_error
from ..rpc.table import RpcTable, Speed
from ..util.clock import Clock, Deadline
from .access_control import AccessControl
from .http_app import HttpApp
from .openrpc import OpenRpcDocument
from .subscription_methods import SubscriptionMethods

__all__ = ["Callbacks", "RpcService", "MessageHandler"]

logger = logging.getLogger("dilithion_ws")

MessageHandler = Callable[[Session, str | bytes], Any]


class RpcService:
    """Answers the transport from the host's table of methods, or from its handler of raw messages.

    Args:
        rpc: the methods.
        limits: bounds.
        clock: seconds that never go backwards.
        keeper: decides who may come in, and what they may do.
        events: told of clients that have gone, and of those that take more.
        sink: the way of events to a connection; None where it has gone.
        callbacks: told of connects and disconnects.
        is_draining: whether the server is about to stop.
        metrics: the text for Prometheus.
        on_message: the handler of raw messages; None where the host has none.
    """

    def __init__(
        self,
        rpc: RpcTable,
        limits: Limits,
        clock: Clock,
        keeper: AccessControl,
        events: EventHub,
        sink: Callable[[int], Subscriber | None],
        callbacks: Callbacks,
        is_draining: Callable[[], bool],
        metrics: Callable[[], bytes],
        on_message: MessageHandler | None,
    ) -> None:
        own = {**keeper.logins.methods(), **SubscriptionMethods(events, sink).methods()}
        describer = OpenRpcDocument(rpc, own, keeper.may_call, events)
        own["rpc.discover"] = describer.method()
        self._dispatcher = Dispatcher(rpc, limits, clock, keeper, own, self._position)
        self._web = HttpApp(keeper, self._dispatcher, describer.document, is_draining, metrics)
        self._keeper = keeper
        self._events = events
        self._callbacks = callbacks
        self._on_message = on_message

    def upgrade(
        self, connection_id: int, address: tuple[str, int], request: UpgradeRequest
    ) -> HttpRefusal | Accepted | PendingAuthentication:
        """As the gatekeeper decides."""
        return self._keeper.upgrade(connection_id, address, request)

    def http(self, connection_id: int, address: tuple[str, int], request: HttpRequest) -> HttpResponse | HttpTask:
        """As the web answers."""
        return self._web.answer(connection_id, address, request)

    def overdue(self, session: Session) -> tuple[int, str] | None:
        """As the gatekeeper decides."""
        return self._keeper.overdue(session)

    def opened(self, session: Session) -> None:
        """Passes the beginning of a connection on."""
        self._keeper.opened(session)
        self._callbacks.connected(session)

    def closed(self, session: Session, code: int, reason: str) -> None:
        """Passes the end of a connection on."""
        self._events.closed(session.connection_id)
        self._callbacks.disconnected(session, code, reason)

    def drained(self, session: Session) -> None:
        """Passes on that a client takes more."""
        self._events.ready(session.connection_id)

    def _position(self, name: str) -> dict[str, Any] | None:
        """Where a topic's log is, as answers are stamped with it."""
        try:
            epoch, seq = self._events.topic(name).log.position
        except UnknownTopicError as error:
            logger.error("an answer can't be stamped: %s", error)
            return None
        return {"topic": name, "epoch": epoch, "seq": seq}

    def heard(self, session: Session, size: int) -> None:
        """As the gatekeeper counts."""
        self._keeper.heard(session, size)

    def may_ping(self, session: Session) -> bool:
        """A ping counts as a message."""
        return not session.limited or self._keeper.message_refusal(session) is None

    def standing(self, session: Session) -> int:
        """As the gatekeeper knows."""
        return self._keeper.logins.standing(session)

    def receive(self, session: Session, opcode: int, payload: bytes) -> Answer | Call | None:
        """A message: for the host's handler where there is one, else for JSON-RPC, in text and binary frames alike."""
        if opcode == TEXT and session.codec is None and not session.limited and self._on_message is None:
            return self._dispatcher.receive(payload, session)  # the others come this way too, with more questions
        refusal = self._keeper.message_refusal(session) if session.limited else None
        if self._on_message is not None and session.admitted:
            if refusal is not None:
                return error_answer(identify(payload) if opcode == TEXT else NULL_ID, refusal)
            session.strikes = 0
            return RawMessageCall(self._on_message, self._receive_rpc, session, opcode, payload)
        return self._receive_rpc(session, opcode, payload, refusal)

    def _receive_rpc(
        self, session: Session, opcode: int, payload: bytes, refusal: RpcError | None = None
    ) -> bytes | SingleCall | BatchCall | None:
        codec = session.codec
        if codec is not None and (opcode == BINARY or not codec.binary):
            try:
                payload = codec.decode(payload)
            except Exception as error:  # a host's codec may raise what it likes
                return error_answer(NULL_ID, refusal or parse_error(str(error)))
        elif opcode == BINARY and not payload.isascii():  # the text of text messages has been checked on its way in
            try:
                payload.decode()
            except UnicodeDecodeError as error:
                return error_answer(NULL_ID, parse_error(str(error)))
        return self._dispatcher.receive(payload, session, refusal)


class RawMessageCall:
    """A message for the host's own handler, which may leave it to JSON-RPC. Messages of one client stay in order."""

    __slots__ = ("_handler", "_opcode", "_payload", "_receive_rpc", "_session", "hooks")

    pace = Speed.SEEN_FAST
    serial = True
    is_login = False

    def __init__(
        self,
        handler: MessageHandler,
        receive_rpc: Callable[[Session, int, bytes], bytes | SingleCall | BatchCall | None],
        session: Session,
        opcode: int,
        payload: bytes,
    ) -> None:
        self._handler = handler
        self._receive_rpc = receive_rpc
        self._session = session
        self._opcode = opcode
        self._payload = payload
        self.hooks: list[Callable[[bool], None]] | None = None

    def run(self) -> Answer | Call | None:
        """Calls the handler; what it raises is logged, and the client hears nothing of it."""
        message = self._payload.decode() if self._opcode == TEXT else self._payload
        try:
            answer = self._handler(self._session, message)
            if answer is NotImplemented:
                return self._receive_rpc(self._session, self._opcode, self._payload)
            if answer is None:
                return None
            if isinstance(answer, str):
                return answer.encode()
            return BINARY, bytes(answer)
        except BaseException:
            logger.exception("on_message failed for %r", self._session)
            return None

    def refuse(self, reason: str) -> Answer | None:
        """The answer of JSON-RPC where the message is a call; raw messages have no form for it, so it is logged."""
        inner = self._receive_rpc(self._session, self._opcode, self._payload)
        if isinstance(inner, (SingleCall, BatchCall)):
            return inner.refuse(reason)
        logger.error("a message of %r was not handled: %s", self._session, reason)
        return None

    def expire(self) -> None:
        """It is logged, and the connection will close."""
        logger.error("on_message has not returned for a message of %r", self._session)

    def stalled(self) -> None:
        """Nothing is learned from it: the next message may be a quick one."""


class Callbacks:
    """Calls the host's callbacks one after the other in a thread of their own, so that they never hold up a client.

    Args:
        on_connect, on_disconnect: the callbacks; the thread exists only where there is one.
        backlog: callbacks that may wait; what comes on top is logged and dropped.
    """

    def __init__(
        self,
        on_connect: Callable[[Session], None] | None,
        on_disconnect: Callable[[Session, int, str], None] | None,
        backlog: int,
    ) -> None:
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(backlog)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread where the host has callbacks."""
        if self._on_connect is not None or self._on_disconnect is not None:
            self._thread = threading.Thread(target=self._run, name="dilithion-ws-callbacks", daemon=True)
            self._thread.start()

    def is_own_thread(self) -> bool:
        """Whether the calling thread is the one that runs callbacks."""
        return threading.current_thread() is self._thread

    def connected(self, session: Session) -> None:
        """Has on_connect called."""
        callback = self._on_connect
        if callback is not None:
            self._put(lambda: callback(session))

    def disconnected(self, session: Session, code: int, reason: str) -> None:
        """Has on_disconnect called."""
        callback = self._on_disconnect
        if callback is not None:
            self._put(lambda: callback(session, code, reason))

    def stop(self, deadline: Deadline) -> None:
        """Ends the thread once the callbacks before this have been called, or at the deadline."""
        if self._thread is None:
            return
        while True:
            try:
                self._queue.put(None, timeout=deadline.remaining())
                break
            except queue.Full:  # the host is stuck in a callback: those behind it give way
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                logger.error("a connect or disconnect callback was dropped: the server has stopped")
        self._thread.join(max(0.1, deadline.remaining()))

    def _put(self, call: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(call)
        except queue.Full:
            logger.error("a connect or disconnect callback was dropped: the host does not keep up")

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except BaseException:
                logger.exception("a connect or disconnect callback failed")
