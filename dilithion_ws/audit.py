"""The audit log: a line of JSON for each login, refusal, denial, lock-out and change. Never a secret, never a parameter.

Lines go through the logger `dilithion_ws.audit`, and into a file of their own where one is configured. The file has mode
0600, and is opened anew after it was moved away by a rotation.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
from datetime import datetime, timezone
from io import TextIOWrapper
from typing import Any

__all__ = ["Audit"]

logger = logging.getLogger("dilithion_ws.audit")


class Audit:
    """Writes the audit log.

    Args:
        path: its file; empty for none.

    Raises:
        OSError: the file can't be opened.
    """

    def __init__(self, path: str = "") -> None:
        self._file = _PrivateFile(path, delay=False) if path else None

    def note(self, event: str, *, address: str = "", user: str | None = None, **details: Any) -> None:
        """Writes one line.

        Args:
            event: what happened, such as `login` or `denied`.
            address: the client's IP address.
            user: whose name it was, None for nobody's.
            details: more members, such as the method's name.
        """
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"time": moment, "event": event, "address": address, "user": user, **details})
        logger.info("%s", line)
        if self._file is not None:
            try:
                self._file.handle(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))
            except OSError as error:  # no decision may depend on whether it could be written down
                logger.error("the audit file can't be written: %s", error.strerror)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


class _PrivateFile(logging.handlers.WatchedFileHandler):
    """A log file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)
