from __future__ import annotations

import resource
import selectors

import pytest

from dilithion_ws.util.open_files import available_files, file_limit


def test_there_are_descriptors_for_some_connections() -> None:
    assert available_files() >= 1


def test_without_a_limit_of_open_files_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert available_files() == 1 << 30


def test_a_system_without_proc_counts_with_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.listdir", lambda path: (_ for _ in ()).throw(OSError("none")))
    assert available_files() >= 1


def test_select_waits_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    assert file_limit() == 512
    monkeypatch.setattr("os.listdir", lambda path: (_ for _ in ()).throw(OSError("none")))
    assert available_files() == 384


def test_a_system_without_limits_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilithion_ws.util.open_files.resource", None)
    assert file_limit() is None
