"""The file of the audit log. A module of its own, since few programs have one and its import takes time."""

from __future__ import annotations

from io import TextIOWrapper
from logging.handlers import WatchedFileHandler

from ..util.files import open_private

__all__ = ["PrivateLogFile"]


class PrivateLogFile(WatchedFileHandler):
    """A log file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=open_private)
