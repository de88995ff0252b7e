"""What a host reports of the things that it depends on, for `GET /health`, which runs no code of the host."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..util.thread_contracts import any_thread

__all__ = ["HealthReports"]

_OWN = {"live", "ready", "version", "store"}
_MAX_REPORTS, _MAX_CHARACTERS = 64, 4096


class HealthReports:
    """The last report of each thing. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the replacement of `_reports`; readers need no lock
        self._reports: dict[str, dict[str, Any]] = {}

    @any_thread
    def report(self, name: str, is_good: bool, details: Mapping[str, Any] | None = None) -> None:
        """Report how a thing is.

        Args:
            name: of the thing, such as `node`. `GET /health?node=1` has the status 503 unless it is good.
            is_good: whether a load balancer may count on it.
            details: what the answer has in addition, as JSON members.

        Raises:
            ConfigError: the name is one of the server's own members, there are too many, or the details are not JSON, or
                too large.
        """
        if name in _OWN or (name not in self._reports and len(self._reports) >= _MAX_REPORTS):
            raise ConfigError(f"{name[:64]!r} can't be reported: it is the server's own, or there are too many")
        try:
            text = json.dumps({**(details or {}), "good": bool(is_good)}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the report of {name[:64]!r} is not JSON: {error}") from None
        if len(text) > _MAX_CHARACTERS:
            raise ConfigError(f"the report of {name[:64]!r} has {len(text)} characters; it takes {_MAX_CHARACTERS}")
        with self._lock:
            self._reports = {**self._reports, name: json.loads(text)}

    @any_thread
    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the reports by name."""
        return self._reports
