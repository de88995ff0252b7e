"""Call functions of the host in threads that must survive them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["call_host"]

R = TypeVar("R")


def call_host(function: Callable[..., R], *arguments: object) -> R:
    """Call a function of the host. What would end the thread, such as SystemExit, becomes a RuntimeError."""
    try:
        return function(*arguments)
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"the host raised {type(error).__name__}") from error
