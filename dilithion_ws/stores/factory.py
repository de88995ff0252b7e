"""Make the store that the setting `rpcwebsocketeventstore` names."""

from __future__ import annotations

from ..config.config import Config
from ..errors import ConfigError
from ..events.store import EventStore

__all__ = ["make_store"]


def make_store(config: Config) -> EventStore | None:
    """Return the configured store, or None for memory.

    Raises:
        ConfigError: a library that it needs is not installed.
    """
    kind, _, rest = config.event_store.partition(":")
    if kind == "sqlite":
        from .sqlite_store import SqliteStore

        return SqliteStore(rest, config.limits, config.store_required)
    if kind != "memory":
        try:
            from .redis_store import RedisStore
        except ImportError:
            raise ConfigError("rpcwebsocketeventstore: Redis needs the package redis: pip install redis") from None
        return RedisStore(config.event_store, config.limits)
    return None
