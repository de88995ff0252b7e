"""Where logs outlive the process: SQLite for one server, Redis for several that share them."""

from .make import make_store

__all__ = ["make_store"]
