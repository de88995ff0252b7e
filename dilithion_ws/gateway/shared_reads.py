"""Answer equal reads by one read, and those that depend on the tip only by what was read since it changed.

Both are correct only as long as nothing was written in between: a client that has sent a transaction and asks for its
balance must not get an answer that the node has made before. So every write, at its beginning and at its end, starts a
new generation, and reads of different generations share nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

from ..util.clock import Clock
from ..util.thread_contracts import any_thread
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["SharedReads"]

_MAX_KEY = 1024
"""Bytes of a key whose result is kept: clients can make keys of any size that stand for the same."""
_OVERHEAD = 500
_MAX_PART = 16
"""No result takes more than this part of the cache."""


class _Kept(NamedTuple):
    value: Any
    version: Hashable
    size: int
    until: float


class Read(NamedTuple):
    """A read of the node.

    Attributes:
        key: what is read. Equal keys have equal results.
        fetch: reads it. It may raise RpcError, which is raised for all who wait for it.
        timeout: seconds to wait for another one's read.
        version: what the result depends on, such as the tip; it is kept as long as that is equal. None to keep nothing.
        size: returns the bytes of a result, or 0 if it must not be kept.
    """

    key: Hashable
    fetch: Callable[[], Any]
    timeout: float
    version: Hashable | None = None
    size: Callable[[Any], int] = len


class SharedReads:
    """Reads of the node that several clients share. Thread-safe.

    Args:
        clock: seconds that never go backwards.
        max_bytes: bytes that are kept; 0 for none.
        max_age: seconds for which a result is kept at most.
    """

    def __init__(self, clock: Clock, max_bytes: int, max_age: float) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._lock = threading.Lock()  # guards all below
        self._running: dict[Hashable, Future[Any]] = {}
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes = 0
        self._generation = 0

    @any_thread
    def write(self, call: Callable[[], Any]) -> Any:
        """Make a call that may change what reads return."""
        self._start_generation()
        try:
            return call()
        finally:
            self._start_generation()

    @any_thread
    def read(self, wanted: Read) -> Any:
        """Return the result of a read: what is kept of it, what an equal one has read that runs, or its own."""
        with self._lock:
            kept = self._find(wanted)
            if kept is not None:
                return kept.value
            flight = wanted.key, wanted.version, self._generation
            running = self._running.get(flight)
            if running is None:
                mine: Future[Any] = Future()
                self._running[flight] = mine
        if running is not None:
            try:
                return running.result(max(0.0, wanted.timeout))
            except FutureTimeoutError:
                raise UpstreamError(UpstreamErrorKind.SLOW_READ) from None
        try:
            value = wanted.fetch()
        except BaseException as error:
            with self._lock:
                del self._running[flight]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[flight]
            if flight[2] == self._generation:
                self._keep(wanted, value)
        mine.set_result(value)
        return value

    def _start_generation(self) -> None:
        with self._lock:
            self._generation += 1
            self._kept.clear()
            self._bytes = 0

    def _find(self, wanted: Read) -> _Kept | None:
        found = self._kept.get(wanted.key)
        if found is None or wanted.version is None:
            return None
        if found.version != wanted.version or self._clock() > found.until:
            del self._kept[wanted.key]
            self._bytes -= found.size
            return None
        self._kept.move_to_end(wanted.key)
        return found

    def _keep(self, wanted: Read, value: Any) -> None:
        size = wanted.size(value) if wanted.version is not None else 0
        key = _key_size(wanted.key)
        if not size or key > _MAX_KEY:
            return
        size += key
        if not 0 < size <= self._max_bytes // _MAX_PART:
            return
        previous = self._kept.pop(wanted.key, None)
        self._bytes += size - (previous.size if previous is not None else 0)
        self._kept[wanted.key] = _Kept(value, wanted.version, size, self._clock() + self._max_age)
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size


def _key_size(key: Hashable) -> int:
    """Return about how many bytes a key and its entry take."""
    parts = key if isinstance(key, tuple) else (key,)
    return _OVERHEAD + sum(len(part) for part in parts if isinstance(part, (str, bytes)))
