"""How much memory this process may still take."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["available_memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_STATUS, _OWN_CGROUP = Path("/proc/self/statm"), Path("/proc/self/cgroup")


def available_memory() -> int | None:
    """Return the bytes that the process may take in addition to what it has, or None if there is no limit.

    The limit of its address space (`ulimit -v`) and that of its control group (`MemoryMax=` of systemd, `--memory` of
    containers) are known.
    """
    found = [rest for rest in (_within_address_space(), _within_cgroup()) if rest is not None]
    return max(0, min(found)) if found else None


def _within_address_space() -> int | None:
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return None
    try:
        used = int(_STATUS.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        used = 0
    return soft - used


def _within_cgroup() -> int | None:
    try:
        unified = next(line for line in _OWN_CGROUP.read_text().splitlines() if line.startswith("0::"))
        folder = _CGROUPS / unified.removeprefix("0::").strip("/")
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    except (OSError, StopIteration, ValueError):  # no unified hierarchy, no such controller, or "max"
        return None
