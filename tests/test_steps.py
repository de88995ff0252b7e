"""How many bytecodes the frequent paths take: a guard against regressions that needs no clock.

Counts vary by some per cent with the number of turns that the event loop takes, and with the version of the interpreter;
the ceilings are those of CPython 3.11.
If a change needs more, raise the ceiling in the same commit, and say what it buys.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("what", "ceiling"), [("call", 1210), ("event", 102), ("broadcast", 110), ("connection", 7200), ("tls", 13500)]
)
def test_a_path_takes_no_more_steps_than_it_did(what: str, ceiling: int) -> None:
    command = [sys.executable, "-m", "benchmarks.steps", what, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    most = ceiling if sys.version_info[:2] == (3, 11) else 1.5 * ceiling
    assert ceiling / 3 < json.loads(done.stdout) < most
