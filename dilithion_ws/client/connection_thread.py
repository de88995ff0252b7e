"""The thread of a synchronous client: it connects, reads, and connects again, and runs the client's core under a lock."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from ..util.clock import Deadline
from ..util.thread_contracts import any_thread
from .client_connection import ClientConnection
from .client_core import ClientCore
from .connection_options import ConnectionOptions
from .exceptions import CallTimeoutError, ClientError, ConnectionLostError
from .open_calls import Answer, OutgoingCall, Reply

__all__ = ["AwaitedAnswer", "ConnectionThread"]

logger = logging.getLogger("dilithion_ws.client")

_JOIN_SECONDS = 2.0


class AwaitedAnswer:
    """Lets a thread wait for one answer."""

    def __init__(self) -> None:
        self._is_there = threading.Event()
        self._answer = Answer()

    @any_thread
    def reply(self, answer: Answer) -> None:
        """Record the answer."""
        self._answer = answer
        self._is_there.set()

    @any_thread
    def wait(self, deadline: Deadline, what: str) -> Answer:
        """Return the answer. Raise CallTimeoutError if there is none in time."""
        if not self._is_there.wait(deadline.remaining()):
            raise CallTimeoutError(f"no answer to {what} in time")
        return self._answer


class ConnectionThread:
    """Runs a client's core. Thread-safe.

    Args:
        options: how to connect.
        core: what to run; from now on only under the lock of this object.

    Attributes:
        lock: guards the core, and what belongs to it.
    """

    def __init__(self, options: ConnectionOptions, core: ClientCore) -> None:
        self._options = options
        self._core = core
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._connection: ClientConnection | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @any_thread
    @contextlib.contextmanager
    def core(self) -> Iterator[ClientCore]:
        """Hold the lock, and afterwards send what the core wants to be sent."""
        with self.lock:
            yield self._core
            texts, timers, connection = self._core.take_outbox(), self._core.take_timers(), self._connection
        for text in texts:
            if connection is not None:
                connection.post(text)
        for pause, action in timers:
            timer = threading.Timer(pause, self._run_timer, [action])
            timer.daemon = True
            timer.start()

    def _run_timer(self, action: Callable[[], None]) -> None:
        with self.core():
            action()

    @any_thread
    def start(self) -> None:
        """Start the thread, if it was not started before."""
        with self.lock:
            if self._thread is None and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="dilithion-ws-client", daemon=True)
                self._thread.start()

    @any_thread
    def close(self) -> None:
        """Close the connection and make no other."""
        with self.core() as core:
            self._is_closing = True
            core.close()
            connection, thread = self._connection, self._thread
            self._changed.notify_all()
        if connection is not None:
            connection.shutdown()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    @any_thread
    def wait_connected(self, deadline: Deadline) -> ClientConnection:
        """Return the connection, if necessary after waiting until the deadline. Raise ClientError if there is none."""
        with self.lock:
            return self._connected(deadline)

    @any_thread
    def ask(self, make: Callable[[ClientCore, Reply], OutgoingCall], deadline: Deadline, what: str) -> Answer:
        """Send a call and return its answer.

        Args:
            make: returns the call; it runs under the lock.
            deadline: for a connection, for sending, and for the answer.
            what: is named if there is no answer.

        Raises:
            CallTimeoutError, ConnectionLostError, RefusedError: see there.
        """
        self.start()
        answer = AwaitedAnswer()
        with self.lock:
            connection = self._connected(deadline)
            call = make(self._core, answer.reply)
        try:
            connection.send(call.text, deadline.remaining())
            return answer.wait(deadline, what)
        finally:
            with self.lock:
                self._core.forget(call)

    def _connected(self, deadline: Deadline) -> ClientConnection:
        while self._connection is None:
            self._core.check()
            if not self._changed.wait(deadline.remaining()):
                last = "" if self._core.last_error is None else f"; last: {self._core.last_error}"
                raise ConnectionLostError(f"no connection to {self._options.url} in time{last}")
        return self._connection

    # In the thread

    def _run(self) -> None:
        pause: float | None = 0.0
        while pause is not None:
            with self._changed:
                if self._changed.wait_for(lambda: self._is_closing, pause):
                    return
            try:
                connection = ClientConnection(self._options, lambda: self._is_closing)
            except Exception as error:
                with self.core() as core:
                    pause = core.on_connect_failed(error)
                    self._changed.notify_all()
            else:
                pause = self._use(connection)

    def _use(self, connection: ClientConnection) -> float | None:
        """Read one connection to its end. Return the pause before the next one, or None."""
        with self.core() as core:
            is_wanted = core.on_connected()
            if is_wanted:
                self._connection = connection
                self._changed.notify_all()
        try:
            if is_wanted:
                for message in connection.messages():
                    with self.core() as core:
                        core.on_message(message)
        except ClientError as error:
            logger.warning("the connection to %s can't be used: %s", self._options.url, error)
        except Exception:
            logger.exception("the connection to %s can't be used", self._options.url)
        with self.core() as core:
            self._connection = None
            pause = core.on_connection_lost(connection.protocol.close_code, connection.protocol.close_reason)
            self._changed.notify_all()
        connection.shutdown()
        connection.close()
        return pause
