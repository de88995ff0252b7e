"""Threads that repeat a step."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from dilithion_ws.util.repeating_thread import Pause, RepeatingThread

from ..support import TEST_TIMEOUT

NEVER = 10 * TEST_TIMEOUT
LOGGER = logging.getLogger(__name__)

Repeat = Callable[..., "tuple[RepeatingThread, queue.SimpleQueue[bool]]"]


@pytest.fixture
def repeat() -> Iterator[Repeat]:
    """Starts threads whose steps end in these pauses or errors, and the queues of what their steps were given."""
    threads: list[RepeatingThread] = []

    def repeat(*outcomes: Pause | Exception | None) -> tuple[RepeatingThread, queue.SimpleQueue[bool]]:
        steps: queue.SimpleQueue[bool] = queue.SimpleQueue()
        left = list(outcomes)

        def step(is_woken: bool) -> Pause | None:
            outcome = left.pop(0)
            steps.put(is_woken)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        threads.append(RepeatingThread("repeats", step, LOGGER, 0.0))
        threads[-1].start()
        return threads[-1], steps

    yield repeat
    for thread in threads:
        thread.stop(10)


def test_a_step_follows_after_the_pause(repeat: Repeat) -> None:
    _, steps = repeat(Pause(0, 0.01), Pause(0.01, 0.01), None)
    assert [steps.get(timeout=10) for _ in range(3)] == [False, False, False]


def test_wake_ends_a_pause_and_the_step_knows(repeat: Repeat) -> None:
    thread, steps = repeat(Pause(0, NEVER), None)
    assert steps.get(timeout=10) is False
    thread.wake()
    assert steps.get(timeout=10) is True


def test_a_pause_without_an_end_waits_for_wake(repeat: Repeat) -> None:
    thread, steps = repeat(Pause(0, math.inf), None)
    assert steps.get(timeout=10) is False
    thread.wake()
    assert steps.get(timeout=10) is True


def test_wake_does_not_shorten_the_minimum(repeat: Repeat) -> None:
    thread, steps = repeat(Pause(NEVER, NEVER), None)
    steps.get(timeout=10)
    thread.wake()
    assert thread.stop(10)
    assert steps.empty()


def test_a_step_that_raises_is_logged_and_repeated(repeat: Repeat, caplog: pytest.LogCaptureFixture) -> None:
    _, steps = repeat(OSError("broken"), None)
    assert [steps.get(timeout=10) for _ in range(2)] == [False, False]
    assert "a step of the thread repeats failed; going on" in caplog.text


def test_stop_ends_a_pause(repeat: Repeat) -> None:
    thread, steps = repeat(Pause(NEVER, NEVER))
    steps.get(timeout=10)
    assert thread.stop(10)


def test_stop_does_not_wait_for_a_step_beyond_its_timeout() -> None:
    gate, entered = threading.Event(), threading.Event()

    def step(is_woken: bool) -> Pause | None:
        entered.set()
        gate.wait(NEVER)
        return None

    thread = RepeatingThread("blocked", step, LOGGER)
    thread.start()
    assert entered.wait(10)
    assert thread.stop(0) is False
    gate.set()
    assert thread.stop(10)


def test_a_thread_that_was_not_started_is_stopped() -> None:
    assert RepeatingThread("new", lambda is_woken: None, LOGGER).stop(10)
