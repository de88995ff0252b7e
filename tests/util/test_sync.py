from __future__ import annotations

import signal
import threading

from dilithion_ws.util.clock import monotonic
from dilithion_ws.util.sync import Latch, WakeFlag


def test_a_latch_lets_all_waiters_go_and_stays_open() -> None:
    latch = Latch()
    assert not latch.wait(0.01)
    assert not latch.is_open
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(latch.wait(10))) for _ in range(5)]
    for thread in threads:
        thread.start()
    latch.open()
    latch.open()
    for thread in threads:
        thread.join()
    assert results == [True] * 5
    assert latch.wait(0)


def test_a_flag_that_is_set_twice_wakes_once() -> None:
    flag = WakeFlag()
    flag.set()
    flag.set()
    flag.wait(None)
    started = monotonic()
    flag.wait(0.02)
    assert monotonic() - started >= 0.015


def test_a_signal_that_another_thread_got_ends_the_wait_of_the_main_thread_too() -> None:
    """Its handler runs in the main thread, but nothing wakes that thread for it."""
    latch = Latch()
    before = signal.signal(signal.SIGUSR1, lambda *_: latch.open())
    try:
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
        timer = threading.Timer(0.1, thread.start)
        timer.start()
        assert latch.wait(10)
        timer.join()
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
