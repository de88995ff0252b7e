"""The classes that threads share, and the checks of their contracts."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from importlib import import_module
from typing import Any

import dilithion_ws
from dilithion_ws.util.thread_contracts import contract_of, install_checks

__all__ = ["check_all", "shared_classes", "undeclared_methods"]

_THREADING = {"Lock", "RLock", "Condition", "Event", "Thread"}
_OTHERS = {"RepeatingThread", "Queue", "SimpleQueue", "Latch", "WakeFlag", "ThreadPoolExecutor"}


@functools.cache
def shared_classes() -> tuple[type, ...]:
    """Return the classes that threads share: those that make a lock or a thread, or declare a thread in a method."""
    found: dict[type, None] = {}
    for module_info in pkgutil.walk_packages(dilithion_ws.__path__, "dilithion_ws."):
        if module_info.name.endswith("__main__"):
            continue
        module = import_module(module_info.name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and _is_shared(kind):
                found[kind] = None
    return tuple(found)


def _is_shared(kind: type) -> bool:
    init = vars(kind).get("__init__")
    names = set(init.__code__.co_names) if inspect.isfunction(init) else set()
    makes = ("threading" in names and names & _THREADING) or names & _OTHERS
    return bool(makes) or any(_contracts(kind).values())


def undeclared_methods(kind: type) -> list[str]:
    """Return the public methods of a class that declare no thread."""
    return [name for name, contract in _contracts(kind).items() if contract is None and not name.startswith("_")]


def check_all() -> None:
    """Have every test fail in which a method runs in a thread that its contract does not allow."""
    install_checks(shared_classes(), _leader_of)


def _contracts(kind: type) -> dict[str, str | None]:
    return {name: contract_of(member) for name, member in vars(kind).items() if inspect.isfunction(member)}


def _leader_of(instance: Any) -> int | None:
    """Return the leading thread of the event loop that an object belongs to, or None if it does not know its loop."""
    reactor = getattr(instance, "reactor", None) or getattr(instance, "_reactor", None) or instance
    leader: int | None = getattr(reactor, "leader", None)
    return leader
