"""docs/architecture.md names functions that exist, and its diagrams are up to date."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dilithion_ws import Limits

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


def defined() -> set[str]:
    """Return the name of every class and function of the package."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    paths = (ROOT / "dilithion_ws").rglob("*.py")
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {node.name for node in nodes if isinstance(node, kinds)}


def test_the_named_classes_and_functions_exist() -> None:
    indented = "".join(re.findall(r"^    .*\n", PAGE, re.MULTILINE))
    classes = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", indented)) - {"WebSocket"}
    functions = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE))
    settings = {field for group in Limits.__annotations__ for field in getattr(Limits(), group).__struct_fields__}
    assert len(classes) > 10
    assert len(functions) > 3
    assert classes - defined() == set()
    assert functions - defined() - settings == set()


def test_the_dependencies_are_those_of_the_package() -> None:
    table = PAGE.partition("## Dependencies\n")[2].partition("\n\nTests use")[0]
    rows = dict(re.findall(r"^\| ([a-z][\w-]+)(?: \(extra `(\w+)`\))? \|", table, re.MULTILINE))
    rows.pop("package")
    text = (ROOT / "pyproject.toml").read_text()
    core = re.findall(r'"([\w-]+)[>=]', re.findall(r"^dependencies = \[(.*)\]", text, re.MULTILINE)[0])
    extras = re.findall(r"^(\w+) = \[(.*)\]$", text.partition("[project.optional-dependencies]\n")[2], re.MULTILINE)
    named = dict.fromkeys(core, "")
    for extra, packages in extras:
        if extra != "docs":
            for one in re.findall(r'"([\w-]+)[>=]', packages):
                named.setdefault(one, extra)
    assert rows == named


def test_the_named_methods_exist() -> None:
    assert len(named()) > 25
    assert named() - members() == set()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.(?:py|md))`", PAGE))))
def test_the_named_files_exist(path: str) -> None:
    assert any((folder / path).exists() for folder in (ROOT, ROOT / "dilithion_ws")), path


def test_the_diagrams_are_up_to_date() -> None:
    result = subprocess.run([sys.executable, ROOT / "scripts" / "diagrams", "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
