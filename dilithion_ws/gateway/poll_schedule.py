"""How soon the next look at the node is due: quick where looking is cheap, seldom where it is slow or fails. No I/O."""

from __future__ import annotations

from .gateway_config import GatewayConfig

__all__ = ["PollSchedule"]

_FIRST, _PATIENT = 0.25, 5
"""Seconds until it is tried again after a failure, and intervals between two tries in the long run."""
_RECOVERS, _SLOWEST = 0.98, 16.0
_CALM = 10
"""Intervals between two looks where the node tells by itself when something happens."""


class PollSchedule:
    """Works out pauses.

    Args:
        config: interval, longest interval, share.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._failures = 0
        self.slowdown = 1.0  # by how much, since the node has said that it is asked too often
        self.has_hints = False  # whether the node tells by itself when something happens

    def succeeded(self, took: float) -> tuple[float, float]:
        """After a look that took so many seconds: those until the next, and those until one that is called for."""
        self._failures = 0
        config = self._config
        rest = self._rest(took)
        self.slowdown = max(1.0, self.slowdown * _RECOVERS)
        interval = min(config.poll_interval * self.slowdown * (_CALM if self.has_hints else 1), config.poll_longest)
        return max(interval, rest), rest

    def failed(self, took: float, wanted: float = 0.0) -> tuple[float, float]:
        """After one that failed; `wanted` are seconds for which the node wants to be left alone, 0 where it does not say.

        A node with a rate limit has said so by that, and is looked at less often for a while: what is left is for calls.
        """
        if wanted:
            self.slowdown = min(self.slowdown * 2, _SLOWEST)
        config = self._config
        interval = min(config.poll_interval, _FIRST) * 2 ** min(self._failures, 10)
        self._failures += 1
        pause = max(wanted, min(interval, _PATIENT * config.poll_interval, config.poll_longest), self._rest(took))
        return pause, pause

    def _rest(self, took: float) -> float:
        """Seconds of rest that a look of this length calls for."""
        return min(took / self._config.poll_share - took, self._config.poll_longest)
