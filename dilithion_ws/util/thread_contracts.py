"""Declare which thread a method runs on, and which lock it needs.

    class Reactor:
        @leader_only
        def update_interest(self, connection): ...

        @any_thread
        def find(self, connection_id): ...

        @requires("_lock")
        def _trim(self): ...

        @owner_only
        def close(self): ...

The decorators only mark the function, so they cost nothing in production. The test suite calls `install_checks`, which
replaces each marked method by one that asserts its contract on every call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any, TypeVar

__all__ = ["any_thread", "contract_of", "install_checks", "leader_only", "owner_only", "requires"]

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__thread_contract__"
_LEADER, _ANY, _OWNER = "leader", "any", "owner"


def leader_only(method: F) -> F:
    """Mark a method that only the leading thread may call (see `net.loop_ownership`)."""
    setattr(method, _ATTRIBUTE, _LEADER)
    return method


def any_thread(method: F) -> F:
    """Mark a method that every thread may call at any time."""
    setattr(method, _ATTRIBUTE, _ANY)
    return method


def owner_only(method: F) -> F:
    """Mark a method that only the object's owner calls, so that two threads are never in such methods of one object."""
    setattr(method, _ATTRIBUTE, _OWNER)
    return method


def requires(lock: str) -> Callable[[F], F]:
    """Mark a method whose caller must hold a lock. `lock` is the name of the attribute that is the lock."""

    def mark(method: F) -> F:
        setattr(method, _ATTRIBUTE, f"lock {lock}")
        return method

    return mark


def contract_of(method: Any) -> str | None:
    """Return the contract that a method is marked with: `leader`, `any`, `owner`, `lock NAME`, or None."""
    contract: str | None = getattr(method, _ATTRIBUTE, None)
    return contract


def install_checks(classes: Iterable[type], leader_of: Callable[[Any], int | None]) -> None:
    """Replace all marked methods of classes by methods that check their contract. For tests.

    Args:
        classes: the classes.
        leader_of: returns, for an instance, the identifier of the leading thread, or None if no thread leads.
    """
    for kind in classes:
        for name, method in list(vars(kind).items()):
            contract = contract_of(method)
            if contract == _LEADER:
                setattr(kind, name, _check_leader(method, leader_of))
            elif contract == _OWNER:
                setattr(kind, name, _check_owner(method))
            elif contract is not None and contract != _ANY:
                setattr(kind, name, _check_lock(method, contract.removeprefix("lock ")))


def _check_leader(method: Callable[..., Any], leader_of: Callable[[Any], int | None]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        leader = leader_of(self)
        assert leader is None or leader == get_ident(), f"{method.__qualname__} was not called by the leading thread"
        return method(self, *args, **options)

    return checked


_owners: dict[int, int] = {}
"""By identity of an object: the thread that is in a method of it that only its owner may call."""


def _check_owner(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        thread, key = get_ident(), id(self)
        is_nested = key in _owners
        assert _owners.setdefault(key, thread) == thread, f"{method.__qualname__} was called by two threads at once"
        try:
            return method(self, *args, **options)
        finally:
            if not is_nested:
                del _owners[key]

    return checked


def _check_lock(method: Callable[..., Any], lock: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        assert getattr(self, lock).locked(), f"{method.__qualname__} was called without {lock}"
        return method(self, *args, **options)

    return checked
