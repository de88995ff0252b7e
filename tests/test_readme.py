"""What the README shows works as it stands there, ports aside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_cli import ROOT, serving

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_embedding_example() -> None:
    code = blocks("python")[0]
    assert "port=8333" in code
    run(code.replace("port=8333", "port=0"))


def test_the_client_example() -> None:
    code = blocks("python")[1]
    assert "ws://localhost:8333" in code
    with serving("--dev") as (_, port):
        assert '"result": ' in run(code.replace(":8333", f":{port}")).replace("'", '"')


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_scripts_that_it_names_can_be_run() -> None:
    named = set(re.findall(r"scripts/(\w+)", README))
    assert {"run", "test", "smoke", "autobahn"} <= named
    for name in named:
        path = Path(ROOT / "scripts" / name)
        assert path.stat().st_mode & 0o100, name
