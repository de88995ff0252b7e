"""What an error of Redis means."""

from __future__ import annotations

import redis

from .store_fault import StoreFaultKind

__all__ = ["kind_of"]


def kind_of(error: BaseException) -> StoreFaultKind:
    """Return what an error of Redis means."""
    if isinstance(error, redis.AuthenticationError):
        return StoreFaultKind.PASSWORD
    if isinstance(error, redis.exceptions.NoPermissionError):
        return StoreFaultKind.PERMISSIONS
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return StoreFaultKind.READ_ONLY
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return StoreFaultKind.FULL
    text = str(error)
    if isinstance(error, redis.ResponseError) and "NOPERM" in text:
        return StoreFaultKind.PERMISSIONS
    if isinstance(error, redis.ResponseError) and "MISCONF" in text:
        return StoreFaultKind.FULL
    moved = (redis.exceptions.ClusterError, redis.exceptions.AskError, redis.exceptions.TryAgainError)
    is_away = isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError, *moved))
    return StoreFaultKind.AWAY if is_away else StoreFaultKind.OTHER
