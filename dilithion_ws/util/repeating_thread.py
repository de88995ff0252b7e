"""A thread that repeats one step, with a pause after each. A test calls the step itself, without the thread."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from .thread_contracts import any_thread, owner_only

__all__ = ["Pause", "RepeatingThread"]


class Pause(NamedTuple):
    """How long the thread waits after a step.

    Attributes:
        minimum: seconds that `wake` does not shorten.
        maximum: seconds after which the next step runs without `wake`; infinity waits for `wake`.
    """

    minimum: float
    maximum: float


class RepeatingThread:
    """Runs a step until it is stopped, or until the step returns None.

    A step that raises is logged, and repeated after a pause.

    Args:
        name: of the thread.
        step: what it runs. It gets whether `wake` has ended the pause before, and returns the pause after it.
        logger: gets the exceptions of steps.
        pause_after_error: seconds.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[bool], Pause | None],
        logger: logging.Logger,
        pause_after_error: float = 1.0,
    ) -> None:
        self._step = step
        self._logger = logger
        self._pause_after_error = Pause(pause_after_error, pause_after_error)
        self._changed = threading.Condition()  # guards the two below
        self._is_woken = False
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @owner_only
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @any_thread
    def wake(self) -> None:
        """End the pause before the next step, or skip it if a step is running."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    @any_thread
    def stop(self, timeout: float) -> bool:
        """Run no further step. Wait for the one that is running, at most `timeout` seconds. Return whether it ended."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        is_woken = False
        while not self._is_stopping:
            try:
                pause = self._step(is_woken)
            except Exception:
                self._logger.exception("a step of the thread %s failed; going on", self._thread.name)
                pause = self._pause_after_error
            if pause is None:
                return
            is_woken = self._wait(pause)

    def _wait(self, pause: Pause) -> bool:
        """Wait until the next step is due. Return whether `wake` has ended the pause."""
        rest = None if pause.maximum == math.inf else max(0.0, pause.maximum - pause.minimum)
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping, pause.minimum)
            self._changed.wait_for(lambda: self._is_stopping or self._is_woken, rest)
            is_woken, self._is_woken = self._is_woken, False
        return is_woken
