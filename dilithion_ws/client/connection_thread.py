"""The thread of a synchronous client: it connects, reads, and connects again, and runs the client's core under a lock.

A finalizer or a signal handler may interrupt a thread that is in the core, and end a subscription or the client there.
So the lock is one that its thread may take again, and what arrives then is done when the core is left (`run_soon`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..errors import ForkError
from ..util.clock import Deadline, monotonic
from ..util.sync import Latch
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
        self._is_there = Latch()  # a signal handler may interrupt the wait, and close the client
        self._answer = Answer()

    @any_thread
    def reply(self, answer: Answer) -> None:
        """Record the answer."""
        self._answer = answer
        self._is_there.open()

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
        core: what to run; from now on only by this object.

    Attributes:
        lock: guards the core, and what belongs to it.
    """

    def __init__(self, options: ConnectionOptions, core: ClientCore) -> None:
        self._options = options
        self._core = core
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._is_in_core = False
        self._waiting: deque[Callable[[ClientCore], None]] = deque()  # see `run_soon`
        self._connection: ClientConnection | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None
        self._timer: threading.Timer | None = None
        self._timer_at: float | None = None
        self._process = os.getpid()

    @any_thread
    @contextlib.contextmanager
    def core(self) -> Iterator[ClientCore]:
        """Hold the lock, and afterwards send what the core wants to be sent."""
        with self.lock:
            if self._is_in_core:
                raise RuntimeError("this thread was interrupted in this client: a signal handler can only close it")
            self._is_in_core = True
            try:
                yield self._core
                while self._waiting:
                    self._waiting.popleft()(self._core)
            finally:
                self._is_in_core = False
            texts, connection = self._core.take_outbox(), self._connection
            if self._core.next_time != self._timer_at:
                self._set_timer()
        for text in texts:
            if connection is not None:
                connection.post(text)

    @any_thread
    def run_soon(self, action: Callable[[ClientCore], None]) -> None:
        """Have the core do something: now, or right after what it does, if this thread was interrupted in the core."""
        self._check_process()
        with self.lock:
            if self._is_in_core:
                self._waiting.append(action)
                return
            with self.core() as core:
                action(core)

    def _set_timer(self) -> None:
        """Have `_on_time` called when the core wants it. Called with the lock held."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, self._core.next_time
        if self._timer_at is not None:
            self._timer = threading.Timer(max(0.0, self._timer_at - monotonic()), self._on_time)
            self._timer.daemon = True
            self._timer.start()

    def _on_time(self) -> None:
        with self.core() as core:
            self._timer_at = None  # so that the next timer is set
            core.on_time()

    @any_thread
    def start(self) -> None:
        """Start the thread, if it was not started before."""
        self._check_process()
        with self.lock:
            if self._thread is None and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="dilithion-ws-client", daemon=True)
                self._thread.start()

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkError("this client is of the parent process, where its thread is; make another one in the child")

    @any_thread
    def close(self) -> None:
        """Close the connection and make no other. In a forked child it does nothing: the connection is the parent's."""
        if os.getpid() != self._process:
            return

        def close(core: ClientCore) -> None:
            self._is_closing = True
            core.close()
            self._changed.notify_all()
            if self._connection is not None:
                self._connection.shutdown()

        self.run_soon(close)
        thread = self._thread
        is_interrupted = self.lock._is_owned()  # type: ignore[attr-defined]  # then the thread may wait for this one
        if not is_interrupted and thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    @any_thread
    def wait_connected(self, deadline: Deadline) -> ClientConnection:
        """Return the connection, if necessary after waiting until the deadline. Raise ClientError if there is none."""
        with self.lock:
            while True:
                self._core.check()
                if self._connection is not None:
                    return self._connection
                if not self._changed.wait(deadline.remaining()):
                    last = "" if self._core.last_error is None else f"; last: {self._core.last_error}"
                    raise ConnectionLostError(f"no connection to {self._options.url} in time{last}")

    @any_thread
    def ask(self, make: Callable[[ClientCore, Reply], OutgoingCall], deadline: Deadline, what: str) -> Answer:
        """Send a call and return its answer.

        Args:
            make: returns the call; it runs in the core.
            deadline: for a connection, for sending, and for the answer.
            what: is named if there is no answer.

        Raises:
            CallTimeoutError, ConnectionLostError, RefusedError: see there.
        """
        self.start()
        answer = AwaitedAnswer()
        call: OutgoingCall | None = None
        while call is None:
            connection = self.wait_connected(deadline)
            with self.core() as core:
                if connection is self._connection:  # it may have been lost meanwhile
                    core.check()
                    call = make(core, answer.reply)
        try:
            connection.send(call.text, deadline.remaining())
            return answer.wait(deadline, what)
        finally:
            forgotten = call
            self.run_soon(lambda core: core.forget(forgotten))

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
                if isinstance(error, ClientError):
                    logger.debug("connecting to %s failed: %s", self._options.url, error)
                else:
                    logger.exception("connecting to %s failed", self._options.url)
                with self.core() as core:
                    pause = core.on_connect_failed(error)
                    self._changed.notify_all()
            else:
                pause = self._use(connection)

    def _use(self, connection: ClientConnection) -> float | None:
        """Read one connection to its end. Return the pause before the next one, or None."""
        try:
            with self.core() as core:
                is_wanted = core.on_connected()
                if is_wanted:
                    self._connection = connection
                    self._changed.notify_all()
            for messages in connection.messages() if is_wanted else ():
                with self.core() as core:
                    for message in messages:
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
