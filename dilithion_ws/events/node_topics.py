"""The topics that every server has: those of a node."""

from __future__ import annotations

from ..config.limits import Limits
from . import node_events
from .log import Retention
from .topic import TopicSpec

__all__ = ["BY_KIND", "default_retention", "node_topics"]

BY_KIND = {"kind": "kind"}
"""Filters of a topic whose events have nothing else to filter by."""


def default_retention(limits: Limits, min_entries: int = 0) -> Retention:
    """Return the retention that the limits `history_...` define. `min_entries` entries are kept whatever their age."""
    history = limits.history
    return Retention(
        history.history_entries, history.history_age, history.history_size, min_entries, history.history_lag
    )


def node_topics(limits: Limits) -> list[TopicSpec]:
    """Return the topics of a node."""
    retention = default_retention(limits, min_entries=1)
    mempool_filters = {**BY_KIND, "txid": "txid|txids", "address": "addresses"}
    return [
        TopicSpec(name=name, retention=retention, permission=permission, filters=filters, schema=schema)
        for name, permission, filters, schema in (
            ("blocks", "READ_BLOCKCHAIN", BY_KIND, node_events.Blocks),
            ("mempool", "READ_MEMPOOL", mempool_filters, node_events.Mempool),
            ("peers", "READ_BLOCKCHAIN", BY_KIND, node_events.Peers),
            ("mining", "READ_MINING", BY_KIND, node_events.Mining),
        )
    ]
