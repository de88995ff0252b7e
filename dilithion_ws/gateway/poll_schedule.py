"""When the next poll of the node is due: soon if polls are cheap, late if they are slow or fail. No I/O."""

from __future__ import annotations

from ..util.repeating_thread import Pause
from .gateway_config import GatewayConfig

__all__ = ["PollSchedule"]

_FIRST_RETRY = 0.25
"""Seconds until the first retry after a failure."""
_MAX_RETRY_INTERVALS = 5
"""The longest pause between two retries, in intervals of ordinary polls."""
_RECOVERY, _MAX_SLOWDOWN = 0.98, 16.0
_INTERVALS_WITH_HINTS = 5
"""How many times longer the interval is while the node sends hints."""


class PollSchedule:
    """Works out the pauses between polls. A hint shortens a pause to its minimum.

    Args:
        config: interval, longest interval, share.

    Attributes:
        slowdown: factor of the interval. It grows each time the node refuses a poll because of its rate limit.
        has_hints: whether the node reports by itself that something has happened.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._failures = 0
        self.slowdown = 1.0
        self.has_hints = False

    def succeeded(self, duration: float) -> Pause:
        """Return the pause after a poll that duration so many seconds."""
        self._failures = 0
        config = self._config
        rest = self._rest(duration)
        self.slowdown = max(1.0, self.slowdown * _RECOVERY)
        factor = self.slowdown * (_INTERVALS_WITH_HINTS if self.has_hints else 1)
        return Pause(rest, max(min(config.poll_interval * factor, config.poll_longest), rest))

    def failed(self, duration: float, retry_after: float = 0.0) -> Pause:
        """Return the pause after a poll that failed.

        A node with a rate limit is polled less often for a while, so that the rest of the limit is left for clients.

        Args:
            duration: seconds that it duration.
            retry_after: seconds for which the node asks for no further request; 0 if it does not ask.
        """
        if retry_after:
            self.slowdown = min(self.slowdown * 2, _MAX_SLOWDOWN)
        config = self._config
        interval = min(config.poll_interval, _FIRST_RETRY) * 2 ** min(self._failures, 10)
        self._failures += 1
        longest = min(interval, _MAX_RETRY_INTERVALS * config.poll_interval, config.poll_longest)
        pause = max(retry_after, longest, self._rest(duration))
        return Pause(pause, pause)

    def _rest(self, duration: float) -> float:
        """Return the seconds of pause that keep polls to their share of the node's time."""
        return min(duration / self._config.poll_share - duration, self._config.poll_longest)
