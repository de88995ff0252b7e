"""The thread that calls the host's connect and disconnect callbacks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from dilithion_ws import CloseStatus, Session
from dilithion_ws.service.callbacks import Callbacks
from dilithion_ws.util.clock import Deadline, monotonic

SESSION = Session(1, ("127.0.0.1", 1))
BYE = CloseStatus(1000, "bye")


class Host:
    """Notes what is called, and can be made to block or to fail."""

    def __init__(self, backlog: int = 10) -> None:
        self.calls: queue.SimpleQueue[tuple[object, ...]] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.callbacks = Callbacks(self.on_connect, self.on_disconnect, backlog)
        self.callbacks.start()

    def on_connect(self, session: Session) -> None:
        self.calls.put((session, self.callbacks.is_own_thread()))
        self.gate.wait(60)
        if self.fails:
            raise SystemExit

    def on_disconnect(self, session: Session, code: int, reason: str) -> None:
        self.calls.put((session, code, reason))


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(backlog=2)
    yield host
    host.gate.set()
    host.callbacks.stop(Deadline(monotonic, 10))


def test_callbacks_run_in_order_in_their_own_thread(host: Host) -> None:
    host.callbacks.connected(SESSION)
    host.callbacks.disconnected(SESSION, BYE)
    assert host.calls.get(timeout=10) == (SESSION, True)
    assert host.calls.get(timeout=10) == (SESSION, 1000, "bye")
    assert not host.callbacks.is_own_thread()


def test_a_callback_that_fails_is_logged_and_the_next_one_runs(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.fails = True
    host.callbacks.connected(SESSION)
    host.callbacks.disconnected(SESSION, BYE)
    host.calls.get(timeout=10)
    assert host.calls.get(timeout=10) == (SESSION, 1000, "bye")
    assert "a connect or disconnect callback failed" in caplog.text


def test_callbacks_beyond_the_backlog_are_dropped_and_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.gate.clear()
    host.callbacks.connected(SESSION)
    host.calls.get(timeout=10)
    for _ in range(3):
        host.callbacks.disconnected(SESSION, BYE)
    assert "the host does not keep up" in caplog.text
    host.gate.set()
    host.callbacks.stop(Deadline(monotonic, 10))
    assert [host.calls.get(timeout=10) for _ in range(2)] == [(SESSION, 1000, "bye")] * 2
    assert host.calls.empty()


def test_stopping_drops_what_a_stuck_callback_keeps_waiting(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.gate.clear()
    host.callbacks.connected(SESSION)
    host.calls.get(timeout=10)
    for _ in range(2):
        host.callbacks.disconnected(SESSION, BYE)
    host.callbacks.stop(Deadline(monotonic, 0))
    assert "the server has stopped" in caplog.text
    assert host.calls.empty()


def test_without_callbacks_there_is_no_thread() -> None:
    before = threading.active_count()
    callbacks = Callbacks(None, None, 10)
    callbacks.start()
    callbacks.connected(SESSION)
    callbacks.disconnected(SESSION, BYE)
    assert threading.active_count() == before
    callbacks.stop(Deadline(monotonic, 0))
