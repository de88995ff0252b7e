"""A subscription of the asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING
from weakref import WeakSet

from .base_subscription import BaseSubscription
from .client_core import ClientCore
from .subscription_state import Event, SubscriptionState

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncSubscription"]


class AsyncSubscription(BaseSubscription):
    """Iterates over the events of a topic. `close()` or an `async with` block ends it. Leaving the loop does not.

    Cancelling a task that waits for an event loses none: the next call returns it.
    """

    def __init__(self, state: SubscriptionState, use_core: Callable[[], AbstractContextManager[ClientCore]]) -> None:
        super().__init__(state)
        self._use_core = use_core
        self._waiters: set[asyncio.Future[None]] = set()
        self._listeners: WeakSet[asyncio.Event] = WeakSet()
        state.wake = self._wake

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def get(self) -> Event | None:
        """Return the next event, or None if the subscription or its client was closed.

        To wait for a limited time, use `asyncio.wait_for`.

        Raises:
            EventsLostError: events are missing here; the next call continues after them.
            RpcError: the server ended the subscription for good, such as for a permission that was taken away.
        """
        while True:
            # Nothing is awaited between taking an event and returning it, so cancelling cannot come in between.
            event = self.get_now()
            if event is not None or self._state.is_closed:
                return event
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def get_now(self) -> Event | None:
        """Return the next event if it is there, or None. Raises what `get` raises."""
        event = self._state.take()
        if event is None and self._state.is_paused and not self._state.is_closed:
            with self._use_core() as core:
                core.resume(self._state)
        return event

    def close(self) -> None:
        """End the subscription."""
        with self._use_core() as core:
            core.unsubscribe(self._state)

    def add_listener(self, listener: asyncio.Event) -> None:
        """Set an event whenever there is something to read, and now. It is not kept alive for that."""
        self._listeners.add(listener)
        listener.set()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for listener in list(self._listeners):
            listener.set()
