"""Notice that files have changed: in place, by a rename, or through a symbolic link."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .thread_contracts import owner_only

__all__ = ["FileWatcher"]

logger = logging.getLogger("dilithion_ws")

_POLL_SECONDS = 1.0


class _Version(NamedTuple):
    modified_ns: int
    size: int
    inode: int


class FileWatcher:
    """Compares modification time, size and inode of files every second.

    The first comparison is with the moment of construction. So a change between reading the files and `start` is not
    missed if the watcher was made before they were read.

    Args:
        paths: the files; they need not exist.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._versions = {path: _version(path) for path in paths}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @owner_only
    def start(self, on_change: Callable[[], object]) -> None:
        """Call a function whenever a file has changed, from a thread that exists only if there are files."""
        if self._versions:
            self._thread = threading.Thread(
                target=self._run, args=(on_change,), name="dilithion-ws-watcher", daemon=True
            )
            self._thread.start()

    @owner_only
    def stop(self) -> None:
        """Stop the thread, without waiting for a call that is running."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_POLL_SECONDS)

    def _run(self, on_change: Callable[[], object]) -> None:
        versions = self._versions
        while not self._stopped.wait(_POLL_SECONDS):
            now = {path: _version(path) for path in versions}
            if now != versions:
                versions = now
                try:
                    on_change()
                except Exception:
                    logger.exception("reloading after a change of files failed")


def _version(path: str) -> _Version | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _Version(found.st_mtime_ns, found.st_size, found.st_ino)
