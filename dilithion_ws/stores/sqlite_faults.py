"""What an error of SQLite, or of the file system, means."""

from __future__ import annotations

import errno
import sqlite3

from .store_fault import StoreFault, StoreFaultKind

__all__ = ["DamageError", "fault_of", "fault_or_damage", "kind_of_os_error"]

_KINDS = {
    3: StoreFaultKind.PERMISSIONS,
    5: StoreFaultKind.IN_USE,
    6: StoreFaultKind.IN_USE,
    8: StoreFaultKind.READ_ONLY,
    10: StoreFaultKind.OTHER,
    13: StoreFaultKind.FULL,
    14: StoreFaultKind.AWAY,
    23: StoreFaultKind.PERMISSIONS,
}
"""By primary result code of SQLite (https://sqlite.org/rescode.html): faults of a file that is not damaged."""
_SIGNS_OF_DAMAGE = (8, 522)
"""SQLITE_READONLY itself, for a file that was opened for writing: its header demands a later SQLite. And
SQLITE_IOERR_SHORT_READ: it was cut off."""
_WORDS = {
    "locked": StoreFaultKind.IN_USE,
    "readonly": StoreFaultKind.READ_ONLY,
    "full": StoreFaultKind.FULL,
    "unable to open": StoreFaultKind.AWAY,
    "disk I/O": StoreFaultKind.OTHER,
}
"""By words in the messages of these errors, for Python 3.10, whose exceptions have no code."""


class DamageError(Exception):
    """The file's content is not what was written."""


def fault_of(error: Exception) -> StoreFault:
    """Return the fault that an error while writing means."""
    found = fault_or_damage(error) if isinstance(error, sqlite3.Error) else None
    return found if isinstance(found, StoreFault) else StoreFault(StoreFaultKind.OTHER, str(error))


def fault_or_damage(error: sqlite3.Error) -> Exception:
    """Return what an error while opening a file means."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.OperationalError) and code not in _SIGNS_OF_DAMAGE:
        kind = _KINDS.get(code & 0xFF) if code is not None else _kind_of_words(str(error))
        if kind is not None:
            return StoreFault(kind, str(error))
    return DamageError(str(error))


def _kind_of_words(text: str) -> StoreFaultKind | None:
    return next((kind for words, kind in _WORDS.items() if words in text), None)


def kind_of_os_error(error: OSError) -> StoreFaultKind:
    """Return what an error of the file system means."""
    if isinstance(error, PermissionError):
        return StoreFaultKind.PERMISSIONS
    if error.errno == errno.EROFS:
        return StoreFaultKind.READ_ONLY
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return StoreFaultKind.FULL
    return StoreFaultKind.AWAY if isinstance(error, FileNotFoundError) else StoreFaultKind.OTHER
