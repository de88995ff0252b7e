"""Where logs outlive the process: SQLite for one server, Redis for several that share them."""

from .factory import make_store

__all__ = ["make_store"]
