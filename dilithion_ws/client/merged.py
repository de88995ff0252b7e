"""Several subscriptions as one iterator."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ..util.thread_contracts import owner_only
from .subscription import Event, Subscription

__all__ = ["merged"]


def merged(*subscriptions: Subscription) -> Iterator[Event]:
    """Iterate over the events of several subscriptions as they come. It ends when all of them are closed.

    An `EventsLostError` of one of them is raised by `next`; the iteration can be continued.

    Example:
        >>> for event in merged(client.subscribe("blocks"), client.subscribe("mempool")):  # doctest: +SKIP
        ...     print(event.topic, event.data)
    """
    return _Merged(list(subscriptions))


class _Merged:
    def __init__(self, subscriptions: list[Subscription]) -> None:
        self._open = subscriptions
        self._something = threading.Event()
        for subscription in subscriptions:
            subscription.add_listener(self._something)

    def __iter__(self) -> Iterator[Event]:
        return self

    @owner_only
    def __next__(self) -> Event:
        while self._open:
            self._something.clear()  # before they are asked: what comes later sets it again
            for subscription in list(self._open):
                if not subscription.has_something:
                    continue
                # The next one has the next turn, however much this one has.
                self._open.remove(subscription)
                self._open.append(subscription)
                event = subscription.get_now()
                if event is not None:
                    return event
                if subscription.is_closed:
                    self._open.remove(subscription)
            if self._open:
                self._something.wait()
        raise StopIteration
