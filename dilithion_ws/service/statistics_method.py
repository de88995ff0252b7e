"""The call `rpc.statistics`: the server's own numbers, for its page and for `dilithion-ws status`."""

from __future__ import annotations

from typing import Any

import msgspec

from .._version import __version__
from ..rpc.method import Method, MethodOptions
from ..util.clock import Clock
from .statistics import MethodStatistics, StatisticsSource

__all__ = ["StatisticsMethod"]


class StatisticsMethod:
    """Returns statistics to those who may see `/metrics`.

    Args:
        source: takes them.
        clock: for the seconds since the server's start, which is now.
    """

    def __init__(self, source: StatisticsSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._begin = clock()

    def method(self) -> Method:
        """Return the method `rpc.statistics`."""
        options = MethodOptions(
            blocking=True,  # its cost grows with the connections
            summary="Return the server's own numbers",
            permission="READ_METRICS",
            only_reads=True,
        )
        return Method("rpc.statistics", self.statistics, options)

    def statistics(self) -> dict[str, Any]:
        """Return the server's own numbers.

        Returns:
            The members of `ServerStatistics`; for each method how many calls succeeded and failed, and the `seconds` that
            all of them took; `refusals` by kind; `version`; and `uptime` in seconds.
        """
        found = self._source.take()
        return {
            "version": __version__,
            "uptime": round(self._clock() - self._begin, 3),
            **msgspec.structs.asdict(found),
            "methods": {name: _describe(method) for name, method in found.methods.items()},
            "refusals": found.refusals,
        }


def _describe(method: MethodStatistics) -> dict[str, Any]:
    return {
        "speed": method.speed,
        "succeeded": method.succeeded,
        "failed": sum(method.errors.values()),
        "seconds": round(method.duration_sum, 6),
    }
