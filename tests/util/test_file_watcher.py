from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dilithion_ws.util.file_watcher import FileWatcher


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilithion_ws.util.file_watcher._POLL_SECONDS", 0.01)


def test_changes_are_noticed_also_after_a_call_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "file"
    watcher = FileWatcher([str(path)])
    calls = threading.Semaphore(0)

    def on_change() -> bool:
        calls.release()
        raise ValueError("not this time")

    watcher.start(on_change)
    path.write_text("a")
    assert calls.acquire(timeout=10)
    path.write_text("longer")
    assert calls.acquire(timeout=10)
    watcher.stop()
    assert "not this time" in caplog.text


def test_a_change_before_the_start_is_noticed(tmp_path: Path) -> None:
    path, changed = tmp_path / "file", threading.Event()
    watcher = FileWatcher([str(path)])
    path.write_text("a")
    watcher.start(lambda: changed.set() is None)
    assert changed.wait(10)
    watcher.stop()


def test_a_request_is_carried_out_by_the_thread_and_answered() -> None:
    watcher, threads = FileWatcher([]), list[str]()
    assert not watcher.request(1.0), "it was not started"
    outcomes = [True, False]

    def act() -> bool:
        threads.append(threading.current_thread().name)
        return outcomes.pop(0)

    watcher.start(act)
    assert [watcher.request(10), watcher.request(10)] == [True, False]
    assert set(threads) == {"dilithion-ws-watcher"}
    watcher.stop()
    assert not watcher.request(1.0)


def test_a_request_that_waits_for_nothing_returns_at_once_also_in_the_thread_itself() -> None:
    watcher, done, calls = FileWatcher([]), threading.Semaphore(0), list[bool]()

    def act() -> bool:
        if not calls:
            calls.append(watcher.request(10))
        done.release()
        return True

    watcher.start(act)
    assert not watcher.request(0)
    assert done.acquire(timeout=10)
    assert done.acquire(timeout=10), "the request of the action itself is carried out after it"
    assert calls == [False]
    watcher.stop()
