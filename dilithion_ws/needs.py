"""The rights that methods and topics need, from what a host has said; what it has said wrongly is for the admin alone."""

from __future__ import annotations

import logging

from .auth.permissions import UNDECLARED, needed, parse_rights
from .errors import ConfigError
from .rpc.method import Method

__all__ = ["find_need", "parse_need"]

logger = logging.getLogger("dilithion_ws")


def find_need(method: Method) -> int:
    """The rights that calls of a method need."""
    try:
        return needed(method.name, method.permission)
    except ConfigError as error:
        logger.error("%s; only the role admin can call %s", error, method.name)
        return UNDECLARED


def parse_need(permission: str | None, what: str) -> int:
    """The rights that a declared permission stands for; `what` names whose it is, for the log."""
    try:
        return UNDECLARED if permission is None else parse_rights(permission, f"the permission of {what}")
    except ConfigError as error:
        logger.error("%s; only the role admin can read it", error)
        return UNDECLARED
