"""Comparison with other WebSocket servers on one machine; `scripts/bench` runs it."""
