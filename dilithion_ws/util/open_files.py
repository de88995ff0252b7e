"""How many files, and so connections, this process may have open."""

from __future__ import annotations

import os
import selectors

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["RESERVED_FILES", "available_files", "file_limit"]

RESERVED_FILES = 64
"""Files of the process that are no connections."""

_SELECT_LIMIT = 512
"""What `select` can wait for on Windows, which has nothing better that Python's `selectors` know."""


def file_limit() -> int | None:
    """Return the number of files that this process may open, or None if there is no limit."""
    if issubclass(selectors.DefaultSelector, selectors.SelectSelector):
        return _SELECT_LIMIT
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def available_files() -> int:
    """Return for how many connections the process has descriptors, in addition to those that it uses now."""
    limit = file_limit()
    if limit is None:
        return 1 << 30
    try:
        used = len(os.listdir("/proc/self/fd"))
    except OSError:  # not Linux
        used = RESERVED_FILES
    return max(1, limit - used - RESERVED_FILES)
