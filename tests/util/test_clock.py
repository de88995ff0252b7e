from __future__ import annotations

from dilithion_ws.util.clock import Deadline

from ..support import Clock


def test_a_deadline_is_never_negative() -> None:
    clock = Clock()
    deadline = Deadline(clock, 5)
    clock.now += 7
    assert deadline.expired
    assert deadline.remaining() == 0.0
    assert Deadline(clock, -3).at == clock.now
    assert Deadline.until(clock, clock.now + 2).remaining() == 2.0
    assert "2.000 s" in repr(Deadline(clock, 2))
