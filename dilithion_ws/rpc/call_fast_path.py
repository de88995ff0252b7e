"""Shortcut of this package on the path of every call.

`is_plainly_allowed` answers the question of `Guard.check_call` for the usual case: a client that is not rate-limited and
has the rights that the method needs, and no API token, which may have limits of its own. For such a call the guard
compares the same values and counts nothing.

Gain, measured with benchmarks.steps on CPython 3.11: a call costs 1035 bytecodes instead of 1061.
Equivalence: tests/rpc/test_call_fast_path.py compares it with the guard of the server for all combinations.
"""

from __future__ import annotations

from ..session import Session
from .method import Method

__all__ = ["is_plainly_allowed"]


def is_plainly_allowed(session: Session, method: Method) -> bool:
    """Return True if a call is certainly allowed. False means that the guard must decide.

    Public methods, which need no rights, are always decided by the guard.
    """
    required = method.required_rights
    return (
        required != 0
        and session.rights & required == required
        and session.is_authorized
        and not session.is_rate_limited
        and session.token is None
    )
