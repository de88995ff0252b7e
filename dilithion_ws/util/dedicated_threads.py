"""Run functions on a few threads of their own, whichever thread asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .thread_contracts import any_thread

__all__ = ["DedicatedThreads"]

R = TypeVar("R")


class DedicatedThreads:
    """A few threads for work that leaves much memory behind in each thread that has done it.

    The allocator of the C library keeps freed memory for the thread that had it. A password hash takes 16 MiB, so a pool
    in which any thread may verify one ends with 16 MiB for each of its threads.

    Args:
        count: threads; they start with the first work.
        name: prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    @any_thread
    def run(self, function: Callable[..., R], *arguments: object) -> R:
        """Call a function on one of them, and wait for its result. Raises what it raises."""
        return self._executor.submit(function, *arguments).result()

    @any_thread
    def stop(self) -> None:
        """End the threads once their work is done."""
        self._executor.shutdown(wait=False)
