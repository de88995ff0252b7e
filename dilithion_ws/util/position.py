"""A place in the log of a topic, as servers and clients name it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Position"]


class Position(NamedTuple):
    """A position in a log: after the entry `seq`, before the next one."""

    epoch: str
    seq: int
