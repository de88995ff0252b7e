"""Which tests cover a line: the folder of the test is the context under which coverage notes the lines that run.

So one run of all tests tells the coverage of each package by its own tests, see `scripts/rooms`.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from pathlib import Path

import pytest
from coverage import Coverage

import dilithion_ws

__all__ = ["measure"]

TESTS = Path(__file__).parent.parent


def measure(item: pytest.Item) -> None:
    """Count what runs from now on for the room of a test. Commands started by tests of `cli` are measured, too."""
    coverage = Coverage.current()
    if coverage is None:
        return
    _import_all()
    parts = item.path.relative_to(TESTS).parts if item.path.is_relative_to(TESTS) else ()
    room = parts[0] if len(parts) > 1 else ""
    _switch(coverage, room)
    if room == "cli":  # only there, since a server that is measured takes twice the time
        os.environ["COVERAGE_PROCESS_START"] = str(TESTS.parent / "pyproject.toml")
        os.environ["COVERAGE_FILE"] = str(TESTS.parent / ".coverage")
        os.environ["ROOM"] = room
    else:
        os.environ.pop("COVERAGE_PROCESS_START", None)


@functools.lru_cache(maxsize=1)
def _switch(coverage: Coverage, room: str) -> None:
    """Switch the context; a repetition is for free."""
    coverage.switch_context(room)


@functools.cache
def _import_all() -> None:
    """Import every module, so that the lines that run at import count for no room in particular."""
    for module in pkgutil.walk_packages(dilithion_ws.__path__, "dilithion_ws."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
