from __future__ import annotations

import gc

from dilithion_ws.net.connection import Connection
from dilithion_ws.net.timer_queue import TimerQueue

from ..support.net import Machine


class Item:
    def __init__(self, timer_at: float) -> None:
        self.timer_at = timer_at


def test_timers_give_what_is_due_in_order() -> None:
    timers: TimerQueue[str] = TimerQueue()
    assert timers.timeout(0) is None
    for at, item in ((5.0, "b"), (3.0, "a"), (5.0, "c"), (9.0, "d")):
        timers.add(at, item)
    assert timers.timeout(1.0) == 2.0
    assert list(timers.pop_due(5.0)) == [(3.0, "a"), (5.0, "b"), (5.0, "c")]
    assert timers.timeout(20.0) == 0.0
    assert len(timers) == 1


def test_obsolete_timers_are_pruned_also_while_others_are_due() -> None:
    timers: TimerQueue[Item] = TimerQueue()
    for number in range(1, 101):
        timers.add(float(number), Item(number if number % 2 else 0.0))
    seen = []
    for at, _ in timers.pop_due(60.0):
        seen.append(at)
        if at == 10:
            timers.prune()
    assert seen == [*range(1, 11), *range(11, 61, 2)]
    assert len(timers) == 20


def test_timers_may_be_added_while_others_are_due() -> None:
    timers: TimerQueue[int] = TimerQueue()
    timers.add(1.0, 0)
    seen = []
    for at, item in timers.pop_due(3.0):
        seen.append(item)
        timers.add(at + 1.0, item + 1)
    assert seen == [0, 1, 2]


def test_connections_that_are_closed_do_not_wait_for_their_timers() -> None:
    machine = Machine()
    try:
        kept = machine.accept()
        for _ in range(1500):
            client = machine.accept()
            machine.step()
            client.close()
            machine.step()
        assert len(machine.reactor.timers) <= 2 + 512 + 2
        gc.collect()
        assert sum(isinstance(one, Connection) for one in gc.get_objects()) <= 2 + 512 + 2
        machine.advance(10.5)
        machine.step()
        assert kept.recv(100).startswith(b"HTTP/1.1 408 "), "its own timer was kept"
        kept.close()
    finally:
        machine.close()
