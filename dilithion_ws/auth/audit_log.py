"""The audit log: one line of JSON for each login, refusal, denial, lock-out and change. It contains no secret or param.

Lines go to the logger `dilithion_ws.audit`, and to a file if one is configured. The file has mode 0600, and is reopened
after a rotation has moved it away.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from ..util.clock import Clock, monotonic
from ..util.ip import network_of
from ..util.thread_contracts import any_thread
from .rate_limiter import Rate, RateLimiter

if TYPE_CHECKING:
    from .audit_file import PrivateLogFile

__all__ = ["AuditLog"]

logger = logging.getLogger("dilithion_ws.audit")

_FREQUENT = ("login", "login failed", "refused", "denied", "rate limited")
"""Events that a client can cause as often as it likes. An API token or a cookie may be tried during a lock-out, too."""

_ONCE_AN_HOUR = Rate(1, 1 / 3600)


class _Cause(NamedTuple):
    """What lines are counted by."""

    event: str
    network: str
    user: str = ""
    hourly: bool = False


def _open_file(path: str) -> PrivateLogFile:
    from .audit_file import PrivateLogFile

    return PrivateLogFile(path, delay=False)


class AuditLog:
    """Writes the audit log. Thread-safe.

    A client that is refused again and again cannot fill the disk: after a burst, lines about the same event and address
    are counted instead, and the next line that is written states how many were suppressed.

    Args:
        path: its file, or "".
        clock: seconds that never go backwards.
        rate: lines about one event and address.
        max_causes: pairs of event and address that are counted at the same time.

    Attributes:
        counts: how often each event was recorded.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self, path: str = "", clock: Clock = monotonic, rate: Rate | None = None, max_causes: int = 10_000
    ) -> None:
        self._file = _open_file(path) if path else None
        self.counts: dict[str, int] = {}
        self._rate = Rate(100, 1.0) if rate is None else rate
        self._limiter = RateLimiter(clock, max_causes)
        self._max_causes = max_causes
        self._lock = threading.Lock()  # guards `_suppressed`
        self._suppressed: OrderedDict[_Cause, int] = OrderedDict()

    @any_thread
    def record(
        self, event: str, *, address: str = "", user: str | None = None, hourly: bool = False, **details: Any
    ) -> None:
        """Write one line.

        Args:
            event: what happened, such as `login` or `denied`.
            address: the client's IP address.
            user: the user's name, or None.
            hourly: whether one line an hour is enough, as for the logins of a client that polls by HTTP.
            details: further members, such as the method's name.
        """
        self.counts[event] = self.counts.get(event, 0) + 1
        if self._file is None and not logger.isEnabledFor(logging.INFO):
            return
        if event in _FREQUENT:
            cause = _Cause(event, network_of(address), (user or "") if event == "login" else "", hourly)
            if self._limiter.take(cause, _ONCE_AN_HOUR if hourly else self._rate):
                self._suppress(cause)
                return
            with self._lock:
                suppressed = self._suppressed.pop(cause, 0)
            if suppressed:
                details["suppressed"] = suppressed
        self._write(event, address, user, details)

    @any_thread
    def close(self) -> None:
        """Write how many lines were suppressed and not reported yet, and close the file."""
        with self._lock:
            unreported = list(self._suppressed.items())
            self._suppressed.clear()
        for cause, count in unreported:
            self._write(cause.event, cause.network, cause.user or None, {"suppressed": count})
        if self._file is not None:
            self._file.close()

    def _suppress(self, cause: _Cause) -> None:
        dropped = None
        with self._lock:
            self._suppressed[cause] = self._suppressed.get(cause, 0) + 1
            self._suppressed.move_to_end(cause)
            if len(self._suppressed) > self._max_causes:
                dropped, count = self._suppressed.popitem(last=False)
        if dropped is not None:  # reported early rather than lost
            self._write(dropped.event, dropped.network, dropped.user or None, {"suppressed": count})

    def _write(self, event: str, address: str, user: str | None, details: dict[str, Any]) -> None:
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, "address": address, "user": user, **details})
        logger.info("%s", line)
        if self._file is not None:
            try:
                self._file.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))
            except OSError as error:  # a decision must not depend on whether it can be written down
                logger.error("the audit file can't be written: %s", error.strerror)
