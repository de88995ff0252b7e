"""Call the host's connect and disconnect callbacks in a thread of their own, so that they never hold up a client."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

from ..errors import CloseStatus
from ..session import Session
from ..util.clock import Deadline
from ..util.thread_contracts import any_thread, owner_only

__all__ = ["Callbacks"]

logger = logging.getLogger("dilithion_ws")

_MIN_JOIN_SECONDS = 0.1


class Callbacks:
    """Calls the callbacks one after the other, in the order of the events.

    Args:
        on_connect, on_disconnect: the callbacks. The thread exists only if there is one.
        backlog: callbacks that may wait; further ones are logged and dropped.
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

    @owner_only
    def start(self) -> None:
        """Start the thread, if the host has callbacks."""
        if self._on_connect is not None or self._on_disconnect is not None:
            self._thread = threading.Thread(target=self._run, name="dilithion-ws-callbacks", daemon=True)
            self._thread.start()

    @any_thread
    def is_own_thread(self) -> bool:
        """Return whether the calling thread is the one that runs callbacks."""
        return threading.current_thread() is self._thread

    @any_thread
    def connected(self, session: Session) -> None:
        """Call `on_connect`."""
        callback = self._on_connect
        if callback is not None:
            self._put(lambda: callback(session))

    @any_thread
    def disconnected(self, session: Session, status: CloseStatus) -> None:
        """Call `on_disconnect`."""
        callback = self._on_disconnect
        if callback is not None:
            self._put(lambda: callback(session, status.code, status.reason))

    @owner_only
    def stop(self, deadline: Deadline) -> None:
        """Stop the thread after the callbacks so far, or at the deadline."""
        if self._thread is None:
            return
        while True:
            try:
                self._queue.put(None, timeout=deadline.remaining())
                break
            except queue.Full:  # the host is stuck in a callback: later ones are dropped
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()
                logger.error("a connect or disconnect callback was dropped: the server has stopped")
        self._thread.join(max(_MIN_JOIN_SECONDS, deadline.remaining()))

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
