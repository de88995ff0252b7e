"""Look whether a store can be used, without using it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from ..errors import ConfigError
from ..util.secrets import mask_url

__all__ = ["find_store_problem"]

_TIMEOUT = 2.0


def find_store_problem(event_store: str) -> str:
    """Return why the store of this setting cannot be used, or nothing if it can. It changes nothing."""
    kind, _, path = event_store.partition(":")
    return _sqlite_problem(path) if kind == "sqlite" else _redis_problem(event_store)


def _sqlite_problem(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.exists(path):
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"the directory {folder} can't be written"
    if not os.access(path, os.R_OK | os.W_OK):
        return "the file can't be written"
    if os.path.exists(path + "-wal"):
        return ""  # a server is running, or has not closed it: opening it would disturb the one, and repair the other
    try:
        # Immutable, since SQLite would otherwise make two files beside it.
        uri = f"{Path(os.path.abspath(path)).as_uri()}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_TIMEOUT)) as db:
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if problem == "ok" else str(problem)
    except sqlite3.DatabaseError as error:
        return str(error)


def _redis_problem(url: str) -> str:
    try:
        from .redis_endpoint import FAULTS, RedisEndpoint
    except ImportError:
        return "it needs the package redis: pip install redis"
    try:
        with contextlib.closing(RedisEndpoint(url, _TIMEOUT)) as endpoint:
            endpoint.client.ping()
    except (*FAULTS, ConfigError) as error:
        return mask_url(str(error))
    return ""
