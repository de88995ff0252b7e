"""docs/architecture.md names functions that exist, and its diagrams are up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
_METHOD = re.compile(r"`([A-Z]\w+)\.([a-z_]\w+)`|([A-Z]\w+)\.([a-z_]\w+)</text>")


def members() -> set[tuple[str, str]]:
    """Return class and name of every member that the package defines."""
    return {
        (node.name, member.name)
        for path in (ROOT / "dilithion_ws").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def named() -> set[tuple[str, str]]:
    texts = [PAGE, *(path.read_text() for path in (ROOT / "docs").glob("*.svg"))]
    return {(found[1] or found[3], found[2] or found[4]) for text in texts for found in _METHOD.finditer(text)}


def test_the_named_methods_exist() -> None:
    assert len(named()) > 25
    assert named() - members() == set()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.(?:py|md))`", PAGE))))
def test_the_named_files_exist(path: str) -> None:
    assert any((folder / path).exists() for folder in (ROOT, ROOT / "dilithion_ws")), path


def test_the_diagrams_are_up_to_date() -> None:
    result = subprocess.run([sys.executable, ROOT / "scripts" / "diagrams", "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
