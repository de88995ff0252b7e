"""Detect the dialect of a node from its answer to one harmless call. No I/O."""

from __future__ import annotations

import json
from typing import Any

from ..response_parser import UpstreamReply
from .base import Dialect
from .bitcoin_core import CORE
from .dilithion import DILITHION

__all__ = ["PROBE", "dialect_named", "detect_dialect"]

PROBE = b'{"jsonrpc":"2.0","method":"getblockchaininfo","params":[],"id":0}'
"""Sent with the headers of both."""


_TEXTS = ("Rate limit exceeded", "Too many failed auth", "Unauthorized - Invalid", "CSRF protection", "Invalid HTTP")
"""How the errors of a Dilithion node begin that are texts."""


def dialect_named(name: str) -> Dialect | None:
    """Return the dialect with a name, or None for `auto`."""
    return {"dilithion": DILITHION, "core": CORE}.get(name)


def detect_dialect(reply: UpstreamReply) -> Dialect | None:
    """Return the dialect of a node by its answer to `PROBE`, or None if the answer does not show it."""
    try:
        answer: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    error, result = answer.get("error"), answer.get("result")
    if isinstance(error, str):
        return DILITHION if error.startswith(_TEXTS) else None  # it may be a proxy's
    if isinstance(result, dict):
        # Core tells how far its headers are ahead of its blocks; Dilithion knows of no such thing.
        return CORE if "headers" in result or "verificationprogress" in result else DILITHION
    if isinstance(error, dict):
        if "error_code" in error:
            return DILITHION
        return CORE if "result" in answer or error.get("code") == -28 else None
    return None
