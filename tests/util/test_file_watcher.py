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

    def on_change() -> None:
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
    watcher.start(changed.set)
    assert changed.wait(10)
    watcher.stop()


def test_without_files_there_is_no_thread() -> None:
    before = threading.active_count()
    watcher = FileWatcher([])
    watcher.start(lambda: None)
    assert threading.active_count() == before
    watcher.stop()
