"""Several subscriptions as one iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import overload

from ..util.sync import WakeFlag
from ..util.thread_contracts import owner_only
from .async_subscription import AsyncSubscription
from .subscription import Subscription
from .subscription_state import Event

__all__ = ["merged"]


@overload
def merged(*subscriptions: Subscription) -> Iterator[Event]: ...


@overload
def merged(*subscriptions: AsyncSubscription) -> AsyncIterator[Event]: ...


def merged(*subscriptions: Subscription | AsyncSubscription) -> Iterator[Event] | AsyncIterator[Event]:
    """Iterate over the events of several subscriptions of one kind as they come. It ends when all of them are closed.

    An `EventsLostError` of one of them is raised by `next`; the iteration can be continued.

    Example:
        >>> for event in merged(client.subscribe("blocks"), client.subscribe("mempool")):  # doctest: +SKIP
        ...     print(event.topic, event.data)
    """
    synchronous = [one for one in subscriptions if isinstance(one, Subscription)]
    asynchronous = [one for one in subscriptions if isinstance(one, AsyncSubscription)]
    if synchronous and asynchronous:
        raise TypeError("subscriptions of both kinds can't be merged")
    return _AsyncMerged(asynchronous) if asynchronous else _Merged(synchronous)


class _Turns:
    """Takes from subscriptions in turn, those with something first."""

    def __init__(self, subscriptions: Sequence[Subscription | AsyncSubscription]) -> None:
        self.open = list(subscriptions)

    def take(self) -> Event | None:
        """Return an event that is there, or None."""
        for subscription in list(self.open):
            if not subscription.has_something:
                continue
            # The next one has the next turn, however much this one has.
            self.open.remove(subscription)
            self.open.append(subscription)
            event = None
            try:
                event = subscription.get_now()
            finally:
                if event is None and subscription.is_closed and not subscription.has_events:
                    self.open.remove(subscription)  # also if it has ended with an error
            if event is not None:
                return event
        return None


class _Merged:
    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self._turns = _Turns(subscriptions)
        self._something = WakeFlag()
        for subscription in subscriptions:
            subscription.add_listener(self._something)

    def __iter__(self) -> Iterator[Event]:
        return self

    @owner_only
    def __next__(self) -> Event:
        while self._turns.open:
            event = self._turns.take()
            if event is not None:
                return event
            if self._turns.open:
                self._something.wait(None)
        raise StopIteration


class _AsyncMerged:
    def __init__(self, subscriptions: Sequence[AsyncSubscription]) -> None:
        self._turns = _Turns(subscriptions)
        self._something = asyncio.Event()
        for subscription in subscriptions:
            subscription.add_listener(self._something)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while self._turns.open:
            self._something.clear()
            event = self._turns.take()
            if event is not None:
                return event
            if self._turns.open:
                await self._something.wait()
        raise StopAsyncIteration
