"""Where a subscription stands: a position in a log, or a block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..util.position import Position

__all__ = ["AfterBlock", "Place", "as_place", "block_after", "place_as_json"]


class AfterBlock(NamedTuple):
    """After a block: where `blocks` and `transactions` resume, however long ago that was.

    Attributes:
        height: its height; -1 before the first block.
        hash: its hash; None for the block that the chain has there.
    """

    height: int
    hash: str | None = None


Place = Position | AfterBlock


def as_place(given: Any) -> Place:
    """Return the place that a caller, or a reply, means. Raise ValueError if it is none.

    Args:
        given: a `Position` or an `AfterBlock`, a pair of epoch and number, or an object of JSON with their members, and
            with the topic, as answers have it.
    """
    if isinstance(given, (Position, AfterBlock)):
        return given
    try:
        if isinstance(given, Mapping):
            members = {name: value for name, value in given.items() if name != "topic"}
            return AfterBlock(**members) if "height" in members else Position(**members)
        epoch, seq = given
    except (TypeError, ValueError):
        raise ValueError(
            f"{given!r} is not a place to resume at: a Position, a AfterBlock, or what one is as JSON"
        ) from None
    return Position(epoch, seq)


def place_as_json(place: Place) -> dict[str, Any]:
    """Return a place as `since` takes it."""
    return {name: value for name, value in place._asdict().items() if value is not None}


def block_after(event: Mapping[str, Any]) -> AfterBlock:
    """Return the tip of the chain after an event of `blocks`."""
    if event["kind"] == "connected":
        return AfterBlock(event["height"], event["hash"])
    return AfterBlock(event["height"] - 1, event["previousblockhash"])
