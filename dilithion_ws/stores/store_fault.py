"""Why a store cannot be used."""

from __future__ import annotations

from enum import Enum

__all__ = ["StoreFault", "StoreFaultKind"]


class StoreFaultKind(Enum):
    """Why a store cannot be used."""

    FULL = "full"
    READ_ONLY = "read-only"
    PERMISSIONS = "permissions"
    IN_USE = "in use"
    VERSION = "version"
    FOREIGN = "foreign"
    AWAY = "away"
    PASSWORD = "password"
    OTHER = "other"


class StoreFault(Exception):
    """A store that cannot be used, and is not damaged.

    Attributes:
        kind: why.
    """

    def __init__(self, kind: StoreFaultKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
