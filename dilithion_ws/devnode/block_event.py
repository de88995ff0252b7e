"""How the parts of the development node tell what happens: to whoever publishes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .chain import Step

__all__ = ["Publish", "block_event", "nobody"]

Publish = Callable[[str, dict[str, Any]], None]
"""Gets a topic and an event, after the node's state has changed."""


def nobody(topic: str, event: dict[str, Any]) -> None:
    """Tells nobody."""


def block_event(step: Step) -> dict[str, Any]:
    """The event of a block that came or went."""
    block = step.block
    return {
        "kind": "connected" if step.connected else "disconnected",
        "height": block.height,
        "hash": block.hash,
        "previousblockhash": block.header.previous,
        "time": block.header.time,
        "tx_count": len(block.transactions),
    }
