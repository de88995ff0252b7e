from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dilithion_ws.util import memory_limit
from dilithion_ws.util.memory_limit import available_memory

SCRIPT = """
import resource
from dilithion_ws.util.memory_limit import available_memory
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
print(available_memory())
"""


def test_the_limit_of_the_address_space() -> None:
    command = [sys.executable, "-c", SCRIPT]
    found = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 100 << 20 < found < 1 << 30


@pytest.mark.parametrize(("most", "rest"), [("5000", 4000), ("500", 0), ("max", None)])
def test_the_limit_of_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str, rest: int | None
) -> None:
    group = tmp_path / "system.slice/node.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text("1000\n")
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/\n0::/system.slice/node.service\n")
    monkeypatch.setattr(memory_limit, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory_limit, "_OWN_CGROUP", own)
    monkeypatch.setattr(memory_limit, "_within_address_space", lambda: None)
    assert available_memory() == rest


def test_where_nothing_is_known_there_is_no_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory_limit, "resource", None)
    monkeypatch.setattr(memory_limit, "_OWN_CGROUP", tmp_path / "none")
    assert available_memory() is None
