"""The events that the parts of the development node publish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .chain import Step

__all__ = ["Publish", "block_event", "discard"]

Publish = Callable[[str, dict[str, Any]], None]
"""Gets a topic and an event, after the node's state has changed."""


def discard(topic: str, event: dict[str, Any]) -> None:
    """Ignore an event."""


def block_event(step: Step) -> dict[str, Any]:
    """Return the event of a block that was connected or disconnected."""
    block = step.block
    return {
        "kind": "connected" if step.connected else "disconnected",
        "height": block.height,
        "hash": block.hash,
        "previousblockhash": block.header.previous,
        "time": block.header.time,
        "tx_count": len(block.transactions),
    }
