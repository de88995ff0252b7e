"""Deadlines of pending calls, compared with a plain list that is sorted each time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.net.call_deadlines import CallDeadlines

CALLS: list[Any] = [object() for _ in range(8)]
_steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "remove", "look"]),
        st.integers(0, len(CALLS) - 1),
        st.sampled_from([0.5, 30.0, 300.0]),
        st.floats(0, 100),
    ),
    max_size=60,
)


@given(_steps)
def test_they_become_due_in_order(steps: list[tuple[str, int, float, float]]) -> None:
    deadlines, model, now = CallDeadlines(), dict[Any, float](), 0.0
    for kind, number, timeout, passed in steps:
        call = CALLS[number]
        if kind == "set":
            deadlines.set(call, now, timeout)
            model[call] = now + timeout
        elif kind == "remove" and call in model:
            deadlines.remove(call)
            del model[call]
        elif kind == "look":
            now += passed
        assert set(deadlines) == set(model)
        assert len(deadlines) == len(model)
        assert bool(deadlines) == bool(model)
        assert (call in deadlines) == (call in model)
        assert set(deadlines.due(now)) == {one for one, at in model.items() if at <= now}
        if model:
            assert deadlines.first() == min(model.values())


def test_an_unknown_call_cannot_be_removed() -> None:
    with pytest.raises(KeyError):
        CallDeadlines().remove(CALLS[0])
