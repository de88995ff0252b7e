"""The audit log: a line of JSON for each login, refusal, denial, lock-out and change. Never a secret, never a parameter.

Lines go through the logger `dilithion_ws.audit`, and into a file of their own where one is configured. The file has mode
0600, and is opened anew after it was moved away by a rotation.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import threading
from collections import OrderedDict
from datetime import datetime, timezone
from io import TextIOWrapper
from typing import Any

from ..util.clock import Clock, monotonic
from ..util.ip import network_of

__all__ = ["AuditLog"]

logger = logging.getLogger("dilithion_ws.audit")

_FREQUENT = ("refused", "denied", "rate limited")
"""What a client can cause as often as it likes."""


class AuditLog:
    """Writes the audit log.

    A client that is refused again and again can't fill the disk: past a burst, lines about the same refusal and address
    are counted instead, and the next one that is written tells how many were. Logins are all written, failed ones too:
    the lock-out bounds those.

    Args:
        path: its file; empty for none.
        clock: seconds that never go backwards.
        rate: lines of one event from one address: at once, and a second.
        most: addresses and events that are counted at a time.

    Attributes:
        counts: how often each event was noted.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(
        self, path: str = "", clock: Clock = monotonic, rate: tuple[float, float] = (100, 1.0), most: int = 10_000
    ) -> None:
        self._file = _PrivateFile(path, delay=False) if path else None
        self.counts: dict[str, int] = {}
        self._clock = clock
        self._burst, self._refill = rate
        self._most = most
        self._counting = threading.Lock()  # guards `_budgets`
        self._budgets: OrderedDict[tuple[str, str], _LineBudget] = OrderedDict()

    def note(self, event: str, *, address: str = "", user: str | None = None, **details: Any) -> None:
        """Writes one line.

        Args:
            event: what happened, such as `login` or `denied`.
            address: the client's IP address.
            user: whose name it was, None for nobody's.
            details: more members, such as the method's name.
        """
        self.counts[event] = self.counts.get(event, 0) + 1
        suppressed, forgotten = self._spend(event, network_of(address)) if event in _FREQUENT else (0, None)
        if forgotten is not None:
            self._write(forgotten[0], forgotten[1], None, {"suppressed": forgotten[2]})
        if suppressed is not None:
            self._write(event, address, user, {**details, **({"suppressed": suppressed} if suppressed else {})})

    def close(self) -> None:
        """Tells what was suppressed and not told yet, and closes the file."""
        with self._counting:
            left = [(key, budget.suppressed) for key, budget in self._budgets.items() if budget.suppressed]
            self._budgets.clear()
        for (event, address), count in left:
            self._write(event, address, None, {"suppressed": count})
        if self._file is not None:
            self._file.close()

    def _spend(self, event: str, address: str) -> tuple[int | None, tuple[str, str, int] | None]:
        """How many lines were suppressed before this one, None where this one is too; and a count to be told now."""
        now, key = self._clock(), (event, address)
        forgotten = None
        with self._counting:
            budget = self._budgets.get(key)
            if budget is None:
                budget = self._budgets[key] = _LineBudget(self._burst, now)
                if len(self._budgets) > self._most:
                    old, out = self._budgets.popitem(last=False)
                    forgotten = (*old, out.suppressed) if out.suppressed else None
            self._budgets.move_to_end(key)
            budget.level = min(self._burst, budget.level + (now - budget.at) * self._refill)
            budget.at = now
            if budget.level < 1:
                budget.suppressed += 1
                return None, forgotten
            budget.level -= 1
            suppressed, budget.suppressed = budget.suppressed, 0
            return suppressed, forgotten

    def _write(self, event: str, address: str, user: str | None, details: dict[str, Any]) -> None:
        if self._file is None and not logger.isEnabledFor(logging.INFO):
            return
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, "address": address, "user": user, **details})
        logger.info("%s", line)
        if self._file is not None:
            try:
                self._file.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))
            except OSError as error:  # no decision may depend on whether it could be written down
                logger.error("the audit file can't be written: %s", error.strerror)


class _LineBudget:
    """Lines that may still be written about one event and address, and how many were not."""

    __slots__ = ("at", "level", "suppressed")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at
        self.suppressed = 0


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A log file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            fd = os.open(path, flags, 0o600)
            os.fchmod(fd, 0o600)  # it may have been there with another
            return fd

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)
