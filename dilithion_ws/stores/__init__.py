"""Stores that keep events beyond the life of the process: SQLite for one server, Redis for several."""

from .factory import make_store

__all__ = ["make_store"]
