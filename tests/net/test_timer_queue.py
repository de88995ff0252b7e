from __future__ import annotations

from dilithion_ws.net.timer_queue import TimerQueue


def test_timers_give_what_is_due_in_order() -> None:
    timers: TimerQueue[str] = TimerQueue()
    assert timers.timeout(0) is None
    for at, item in ((5.0, "b"), (3.0, "a"), (5.0, "c"), (9.0, "d")):
        timers.add(at, item)
    assert timers.timeout(1.0) == 2.0
    assert list(timers.pop_due(5.0)) == [(3.0, "a"), (5.0, "b"), (5.0, "c")]
    assert timers.timeout(20.0) == 0.0
    assert len(timers) == 1


def test_timers_may_be_added_while_others_are_due() -> None:
    timers: TimerQueue[int] = TimerQueue()
    timers.add(1.0, 0)
    seen = []
    for at, item in timers.pop_due(3.0):
        seen.append(item)
        timers.add(at + 1.0, item + 1)
    assert seen == [0, 1, 2]
