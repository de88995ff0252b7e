"""The classes that threads share, and the checks of their contracts."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from dilithion_ws.util.thread_contracts import contract_of, install_checks

__all__ = ["SHARED_ROOMS", "check_all", "shared_classes", "undeclared_methods"]

SHARED_ROOMS = ("auth", "events", "net", "stores")


def shared_classes() -> Iterator[type]:
    """Yield the classes of the shared rooms with a method that declares its thread."""
    for room in SHARED_ROOMS:
        package = import_module(f"dilithion_ws.{room}")
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = import_module(found.name)
            for kind in vars(module).values():
                if inspect.isclass(kind) and kind.__module__ == module.__name__ and any(_contracts(kind).values()):
                    yield kind


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
