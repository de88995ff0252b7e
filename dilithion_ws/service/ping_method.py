"""The call `rpc.ping`: an answer for clients that want to know whether the connection is alive.

A browser answers the server's pings by itself and shows nothing of them to the page, and it can send none.
"""

from __future__ import annotations

from ..rpc.method import Method, MethodOptions

__all__ = ["ping_method"]


def ping_method() -> Method:
    """Return the method."""
    options = MethodOptions(blocking=False, summary="Answer true", is_public=True, description="", only_reads=True)
    return Method("rpc.ping", _ping, options)


def _ping() -> bool:
    return True
