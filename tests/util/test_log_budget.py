from __future__ import annotations

from dilithion_ws.util.log_budget import LogBudget

from ..support import Clock


def test_lines_beyond_the_burst_are_counted_and_reported_with_the_next_one() -> None:
    clock = Clock()
    budget = LogBudget(clock, 2, 0.5)
    assert [budget.take() for _ in range(5)] == [0, 0, None, None, None]
    clock.now += 2.0
    assert [budget.take() for _ in range(2)] == [3, None]


def test_a_long_silence_saves_no_more_than_the_burst() -> None:
    clock = Clock()
    budget = LogBudget(clock, 2, 1.0)
    clock.now += 1000.0
    assert [budget.take() for _ in range(3)] == [0, 0, None]
