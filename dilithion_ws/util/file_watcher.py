"""Notice that files have changed: in place, by a rename, or through a symbolic link."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .sync import Latch, WakeFlag
from .thread_contracts import any_thread, owner_only

__all__ = ["FileWatcher"]

logger = logging.getLogger("dilithion_ws")

_POLL_SECONDS = 1.0


class _Version(NamedTuple):
    modified_ns: int
    size: int
    inode: int


class _Request:
    """A request to act without a change, and its outcome."""

    def __init__(self) -> None:
        self.done = Latch()
        self.succeeded = False


class FileWatcher:
    """Compares modification time, size and inode of files every second, and acts on changes and on requests.

    All of that happens in one thread. So a request of a signal handler does not nest in an action that its own thread is
    carrying out, and takes no lock that its own thread may hold.

    The first comparison is with the moment of construction. So a change between reading the files and `start` is not
    missed if the watcher was made before they were read.

    Args:
        paths: the files; they need not exist.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._versions = {path: _version(path) for path in paths}
        self._wake = WakeFlag()
        self._is_stopped = False
        self._requests: list[_Request] = []  # appending and popping are atomic
        self._thread: threading.Thread | None = None

    @owner_only
    def start(self, act: Callable[[], bool]) -> None:
        """Call a function whenever a file has changed, and for each request. It returns whether it succeeded."""
        self._thread = threading.Thread(target=self._run, args=(act,), name="dilithion-ws-watcher", daemon=True)
        self._thread.start()

    @any_thread
    def request(self, timeout: float) -> bool:
        """Have the function called soon.

        Args:
            timeout: seconds to wait for its end; 0 to wait for nothing, as a signal handler must.

        Returns:
            Whether it has succeeded in time.
        """
        if self._is_stopped or self._thread is None:
            return False
        request = _Request()
        self._requests.append(request)
        self._wake.set()
        if self._is_stopped:  # the thread may have looked for requests for the last time
            return False
        if timeout <= 0 or threading.current_thread() is self._thread:
            return False
        return request.done.wait(timeout) and request.succeeded

    @owner_only
    def stop(self) -> None:
        """Stop the thread, without waiting for a call that is running."""
        self._is_stopped = True
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_POLL_SECONDS)

    def _run(self, act: Callable[[], bool]) -> None:
        while not self._is_stopped:
            self._wake.wait(_POLL_SECONDS)
            requests = self._take_requests()
            succeeded = False
            if not self._is_stopped:
                now = {path: _version(path) for path in self._versions}
                if requests or now != self._versions:
                    self._versions = now
                    try:
                        succeeded = act()
                    except Exception:
                        logger.exception("reloading after a change of files failed")
            for request in requests:
                request.succeeded = succeeded
                request.done.open()
        for request in self._take_requests():  # those that came after the last look, and before the stop was noticed
            request.done.open()

    def _take_requests(self) -> list[_Request]:
        return [self._requests.pop(0) for _ in range(len(self._requests))]


def _version(path: str) -> _Version | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return _Version(found.st_mtime_ns, found.st_size, found.st_ino)
