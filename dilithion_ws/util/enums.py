"""Choices that two floors must agree on.

Hot paths bind the members to module names and compare them with `is` or `<=`: looking a member up on its class costs
about 0.1 µs before Python 3.12.
"""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = ["OfferResult", "RpcDialect", "Speed", "TaskKind"]


class Speed(IntEnum):
    """How long a task may take. Lower values are safer to run in the leading thread."""

    DECLARED_FAST = 0
    """The host declared that it never blocks."""
    MEASURED_FAST = 1
    """Its recent calls were fast."""
    UNKNOWN = 2
    """It was not called yet, or its calls were neither fast nor slow."""
    SLOW = 3
    """The host declared that it blocks, or its recent calls were slow: it runs in the pool."""


class TaskKind(Enum):
    """What a task does. Each kind has threads of its own in the pool, so that none takes those of another."""

    CALL = "call"
    """It runs code of the host, which may take long."""
    BRIEF_CALL = "brief call"
    """The same, by methods that are known to take a moment. They may use every free thread for calls."""
    LOGIN = "login"
    """It verifies a password."""
    REQUEST = "request"
    """It parses a large message, or answers an HTTP request, also one for a call that is not known to be slow."""


class RpcDialect(Enum):
    """How clients by POST speak, and what they expect."""

    DILITHION = "dilithion"
    """As those of the Dilithion node do: with a header against forged requests, and JSON-RPC 2.0."""
    CORE = "core"
    """As those of Bitcoin Core do: any version of JSON-RPC, batches of hundreds, and the wallet in the path."""


class OfferResult(Enum):
    """The result of offering bytes to a subscriber."""

    SENT = "sent"
    """They are with the operating system; more may follow at once."""
    BUFFERED = "buffered"
    """They were accepted, but the client does not keep up: more may be offered when it is writable again."""
    REJECTED = "rejected"
    """They were not accepted, for the same reason."""
    CLOSED = "closed"
    """They were not accepted, and never will be."""
