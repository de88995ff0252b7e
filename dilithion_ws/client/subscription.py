"""A subscription: an iterator over events, which raises an error if events are missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..util.clock import Deadline, monotonic
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread
from .base_subscription import BaseSubscription
from .connection_thread import ConnectionThread
from .exceptions import CallTimeoutError
from .subscription_state import Event, SubscriptionState

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Subscription"]


class Subscription(BaseSubscription):
    """Iterates over the events of a topic. `close()` or a `with` block ends it. Leaving the loop does not. Thread-safe.

    What it has not been read of yet is kept here, up to a bound. Past that the server is asked for no more; when the rest
    has been read it goes on from there, out of the server's log.
    """

    def __init__(self, state: SubscriptionState, thread: ConnectionThread) -> None:
        super().__init__(state)
        self._thread = thread
        self._changed = threading.Condition(thread.lock)
        self._listeners: WeakSet[WakeFlag] = WeakSet()
        state.wake = self._wake

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @any_thread
    def get(self, timeout: float | None = None) -> Event | None:
        """Return the next event, or None if the subscription or its client was closed.

        Args:
            timeout: seconds to wait; None waits as long as it takes.

        Raises:
            EventsLostError: events are missing here; the next call continues after them.
            CallTimeoutError: none came in time.
            RpcError: the server ended the subscription for good, such as for a permission that was taken away.
        """
        deadline = None if timeout is None else Deadline(monotonic, timeout)
        while True:
            with self._changed:
                event = self._state.take()
                if event is not None or self._state.is_closed:
                    return event
                is_paused = self._state.is_paused
                if not is_paused and not self._changed.wait(None if deadline is None else deadline.remaining()):
                    raise CallTimeoutError(f"no event of {self.topic} in time")
            if is_paused:
                self._thread.run_soon(lambda core: core.resume(self._state))

    @any_thread
    def get_now(self) -> Event | None:
        """Return the next event if it is there, or None. Raises what `get` raises but for the time."""
        try:
            return self.get(0.0)
        except CallTimeoutError:
            return None

    @any_thread
    def close(self) -> None:
        """End the subscription."""
        self._thread.run_soon(lambda core: core.unsubscribe(self._state))

    @any_thread
    def add_listener(self, listener: WakeFlag) -> None:
        """Set a flag whenever there is something to read, and now. It is not kept alive for that."""
        with self._changed:
            self._listeners.add(listener)
        listener.set()

    def _wake(self) -> None:
        """Wake the readers. The core calls it, so the lock is held."""
        self._changed.notify_all()
        for listener in list(self._listeners):
            listener.set()
