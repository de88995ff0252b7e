"""Imports go down only, and the sans-I/O floors know no socket, thread or wall clock."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dilithion_ws"

MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "clock": set(),
    "addresses": set(),
    "config": {"errors", "addresses", "settings"},
    "settings": {"errors", "config", "files"},
    "files": {"errors"},
    "protocol": {"protocol", "errors", "config"},
    "rpc": {"rpc", "errors", "config", "clock"},
    "access": {"access", "errors", "config", "clock", "addresses"},
    "events": {"events", "errors", "config", "clock"},
    "stores": {"stores", "events", "errors", "config", "clock"},
    "client": {"client", "events", "errors", "clock"},
    "net": {"net", "protocol", "errors", "config", "clock", "addresses"},
}
"""By module or package below the top floor; `server`, `hosting`, `cli` and `devnode` may import everything."""

GATEWAY_IO = {"upstream", "hints", "watcher", "waiting", "node", "gateway"}
"""Modules of the gateway that may know sockets, threads and time; the others are without."""

THIRD_PARTY: dict[str, set[str]] = {
    "protocol": {"h11", "wsproto", "websockets"},
    "rpc": {"msgspec"},
    "events": {"msgspec"},
    "client": {"msgspec", "wsproto", "typing_extensions"},
    "stores": {"redis"},
}
NO_IO = {"socket", "select", "selectors", "threading", "time", "asyncio", "concurrent", "queue", "os", "ssl"}
ALLOWED_IO = {
    "clock": {"time"},
    "rpc/table.py": {"threading"},
    "rpc/later.py": {"threading"},
    "access": {"threading"},
    "events": {"threading"},
}
STANDARD = sys.stdlib_module_names


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """What a module imports, as absolute names."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = list(parts[: len(parts) - node.level + 1]) if node.level else []
            name = [*base, *(node.module.split(".") if node.module else [])]
            found |= {".".join(name)} if node.module else {".".join([*name, alias.name]) for alias in node.names}
    return found


def floor(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    name = floor(path)
    if name not in MAY_IMPORT:
        return
    for imported in imports(path):
        first, *rest = imported.split(".")
        if first == "dilithion_ws":
            assert rest, f"{path} imports the package itself"
            assert rest[0] in MAY_IMPORT[name], f"{path} may not import {imported}"
        else:
            assert first in STANDARD | THIRD_PARTY.get(name, set()), f"{path} may not import {imported}"


@pytest.mark.parametrize("name", ["errors", "config", "clock", "addresses", "protocol", "rpc", "access", "events"])
def test_the_lower_floors_do_no_io(name: str) -> None:
    for path in modules():
        if floor(path) != name:
            continue
        allowed = ALLOWED_IO.get(name, set()) | ALLOWED_IO.get(str(path.relative_to(PACKAGE)), set())
        used = {imported.split(".")[0] for imported in imports(path)} & NO_IO
        assert used <= allowed, f"{path} uses {used - allowed}"


@pytest.mark.parametrize("host", ["devnode", "gateway"])
def test_the_hosts_use_the_public_api_alone(host: str) -> None:
    for path in (PACKAGE / host).glob("*.py"):
        foreign = {name for name in imports(path) if name.startswith("dilithion_ws.") and f".{host}" not in name}
        assert all(name.count(".") == 1 for name in foreign), f"{path} imports {foreign}"
        assert {name.split(".")[1] for name in foreign} <= set(__import__("dilithion_ws").__all__)


def test_what_the_gateway_understands_is_apart_from_what_it_does() -> None:
    for path in (PACKAGE / "gateway").glob("*.py"):
        if path.stem not in GATEWAY_IO:
            used = {imported.split(".")[0] for imported in imports(path)} & {*NO_IO, "urllib3", "zmq"}
            assert not used, f"{path} uses {used}"


def test_files_are_short() -> None:
    long = {path.name: lines for path in modules() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long
