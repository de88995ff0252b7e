"""What the subscriptions of both clients show."""

from __future__ import annotations

from typing import Any

from .places import Place
from .subscription_state import SubscriptionState

__all__ = ["BaseSubscription"]


class BaseSubscription:
    """A subscription of a client. Its state changes only while the client's core runs."""

    def __init__(self, state: SubscriptionState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic} at {self.position}>"

    @property
    def topic(self) -> str:
        """What was subscribed to."""
        return self._state.topic

    @property
    def filter(self) -> dict[str, Any] | None:
        """As it was given."""
        return self._state.filter

    @property
    def position(self) -> Place | None:
        """Where to resume after the last event that was read, or where the subscription began."""
        return self._state.position

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come in."""
        return self._state.is_closed

    @property
    def is_paused(self) -> bool:
        """Whether the server is asked for no more until the events that came in have been read."""
        return self._state.is_paused

    @property
    def has_events(self) -> bool:
        """Whether events, or errors about lost ones, wait to be read."""
        return bool(self._state.waiting)

    @property
    def has_something(self) -> bool:
        """Whether `get` returns, or raises, without waiting."""
        return self._state.has_something
