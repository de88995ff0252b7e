"""The mark beside a SQLite file, which fits only to the file that has all events.

A server that uses the file holds a lock on the mark, if the system has `flock`. Another server that finds the file in use
then does not change the mark.

On a read-only file system the mark cannot be emptied. Then there is another one among the temporary files. That is as
much as can be done there: if it vanishes before the process ends and the file system becomes writable again without a
restart of the machine, the next server takes the file for complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from typing import ClassVar

from ..util.files import open_private

try:
    import fcntl
except ImportError:  # a system without it
    fcntl = None  # type: ignore[assignment]

__all__ = ["SessionMark", "invalidate"]

_ENDING = "-session"
_MOST_BYTES = 200


class SessionMark:
    """The mark of a file that is in use.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be written.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"no mark"})
    """What `read` returns if the file has no mark."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = open_private(path + _ENDING, os.O_RDWR | os.O_CREAT)
        _lock(self._descriptor)

    def write(self, *sessions: str) -> None:
        """Have it fit to the file with one of these texts."""
        data = "\n".join(sessions).encode("ascii", "replace")
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, data)
        os.truncate(self._descriptor, len(data))
        os.fsync(self._descriptor)
        with contextlib.suppress(OSError):
            if _is_ours(_elsewhere(self._path)):
                os.unlink(_elsewhere(self._path))

    def close(self) -> None:
        """Release it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @staticmethod
    def read(path: str) -> frozenset[str]:
        """Return the texts to which the mark of a file fits: none if events were kept in memory since it was used."""
        if _is_ours(_elsewhere(path)):
            return frozenset()
        try:
            descriptor = open_private(path + _ENDING, os.O_RDONLY)
        except FileNotFoundError:
            return SessionMark.ABSENT
        except OSError:
            return frozenset()
        with open(descriptor, encoding="ascii", errors="replace") as file:
            return frozenset(file.read(_MOST_BYTES).split("\n")) - {""}


def invalidate(path: str) -> None:
    """Have all logs of a file start new epochs when it is opened the next time, since events are kept in memory.

    If another server uses the file, it is left alone: the events of that one are in it.
    """
    try:
        descriptor = open_private(path + _ENDING, os.O_RDWR | os.O_CREAT)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(open_private(_elsewhere(path), os.O_WRONLY | os.O_CREAT))
        return
    try:
        if _lock(descriptor):
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed. Return False if another process has locked it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def _elsewhere(path: str) -> str:
    """Return the path of the mark that says that events were kept in memory."""
    digest = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(tempfile.gettempdir(), f"dilithion-ws-{digest}")


def _is_ours(path: str) -> bool:
    """Return whether there is such a file, made by this user: anyone may put something among the temporary files."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())
