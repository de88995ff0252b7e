"""A short form of `scripts/soak`: a server does not grow with what it does, and what grows is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import soak

pytestmark = pytest.mark.load

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_SETTLE_SECONDS", 0.3)


@pytest.mark.parametrize(("name", "ceiling"), [("connections", 2e6), ("tls", 4e6)])
def test_a_phase_leaves_no_file_or_thread_and_hardly_any_memory(
    name: str, ceiling: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """In so few cycles a process still grows by some pages."""
    assert soak.measure(name, 1000, ceiling), capsys.readouterr().out
    assert "held" in capsys.readouterr().out


def test_of_a_phase_that_grows_it_is_said_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert not soak.measure("posts", 100, -1e12)
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert " KB" in shown
    assert "File " in shown


def test_an_unknown_phase_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "walks"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (found.returncode, "there is no phase walks" in found.stderr) == (2, True)
