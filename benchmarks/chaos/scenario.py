"""What a scenario is: a function that does harm and returns figures, or raises AssertionError with what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = ["SCENARIOS", "NotHereError", "Scenario", "Terms", "scenario"]


class NotHereError(Exception):
    """This machine does not have what the scenario needs."""


class Terms(NamedTuple):
    """How a scenario is run.

    Attributes:
        folder: for its files.
        short: whether it should take seconds and not minutes.
    """

    folder: Path
    short: bool

    def choose(self, short: float, long: float) -> float:
        """Return one of two numbers."""
        return short if self.short else long


class Scenario(NamedTuple):
    """A scenario.

    Attributes:
        name: of it.
        promise: what should hold.
        run: runs it, and returns figures.
    """

    name: str
    promise: str
    run: Callable[[Terms], str]


SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Callable[[Terms], str]], Callable[[Terms], str]]:
    """Add a function to the scenarios. The first line of its docstring says what should hold."""

    def add(run: Callable[[Terms], str]) -> Callable[[Terms], str]:
        SCENARIOS[name] = Scenario(name, (run.__doc__ or "").partition("\n")[0], run)
        return run

    return add
