"""The structure of the package, as tables: who may import whom, which library is used where, and how large things are."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import dilithion_ws

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dilithion_ws"

ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "session": {"errors"},
    "util": {"errors"},
    "config": {"errors", "util"},
    "protocol": {"errors"},
    "auth": {"config", "errors", "session", "util"},
    "rpc": {"auth", "config", "errors", "session", "util"},
    "events": {"auth", "config", "errors", "session", "util"},
    "net": {"config", "errors", "protocol", "session", "util"},
    "stores": {"config", "errors", "events", "util"},
    "client": {"errors", "util"},
    "service": {"_version", "auth", "config", "errors", "events", "net", "protocol", "rpc", "session", "util"},
    "server": {"auth", "config", "errors", "events", "net", "protocol", "rpc", "service", "session", "stores", "util"},
    "initialize": {"config", "rpc", "server"},
    "devnode": {"public", "util"},
    "gateway": {"config", "public", "util"},
}
"""By room, a package or a module of the root: the rooms that it may import, and itself. `public` stands for the names
that `dilithion_ws` exports. `__init__`, `__main__` and `cli` may import every room."""

THIRD_PARTY: dict[str, set[str]] = {
    "util": {"msgspec"},
    "config": {"msgspec"},
    "protocol": {"h11", "msgspec", "websockets", "wsproto"},
    "auth": {"msgspec"},
    "rpc": {"msgspec"},
    "events": {"msgspec"},
    "net": {"msgspec"},
    "stores": {"msgspec", "redis"},
    "client": {"msgspec", "typing_extensions", "wsproto"},
    "service": {"msgspec", "prometheus_client"},
    "server": {"msgspec", "typing_extensions"},
    "initialize": {"msgspec"},
    "devnode": {"typing_extensions"},
    "gateway": {"msgspec", "typing_extensions", "urllib3", "zmq"},
    "cli": {"msgspec", "shtab"},
}

IO = {"socket", "select", "selectors", "threading", "time", "asyncio", "concurrent", "queue", "os", "ssl"}
SANS_IO: dict[str, set[str]] = {
    "errors": set(),
    "session": set(),
    "config": {"os"},  # reads files and the environment
    "protocol": set(),
    "auth": {"os", "threading"},  # files of credentials; locks
    "rpc": {"threading"},  # locks
    "events": {"threading"},  # locks
}
"""Rooms without I/O, each with the exceptions that it may use."""

CLIENT_IO = {
    "async_client",
    "async_connection",
    "async_subscription",
    "base_client",  # the type of a TLS context
    "client",
    "client_connection",
    "connection_options",  # the type of a TLS context
    "connection_thread",
    "merged",
    "position_store",
    "subscription",
    "upgrade_errors",  # the types of errors of sockets and TLS
}
"""Likewise the modules of the clients."""

GATEWAY_IO = {
    "block_waiters",
    "failover",
    "gateway",
    "help_reader",
    "http_upstream",
    "limited_calls",
    "long_poll",
    "node_client",
    "poller_thread",
    "shared_reads",
    "template_waiters",
    "zmq_listener",
}
"""Modules of the gateway with sockets, threads and time; the others have none."""

MAX_LINES = 400
MAX_MEDIAN_PARAMETERS = 3
MAX_PARAMETERS, MAX_LONG_CONSTRUCTORS = 5, 5
MAX_CALLABLE_PARAMETERS = 25


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """Return the room of a module's dotted name."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


MODULES = {dotted(path): path for path in modules()}


def imports(path: Path) -> Iterator[str]:
    """Yield everything that a module imports, also inside functions and for type checkers, with absolute names."""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def module_of(imported: str) -> str | None:
    """Return the module of this package that an imported name is or belongs to."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in MODULES), None)


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield path, node


def constructors() -> Iterator[tuple[str, list[ast.arg]]]:
    for _, node in classes():
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                yield node.name, [*member.args.args[1:], *member.args.kwonlyargs]


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_what_its_line_of_the_table_allows(name: str) -> None:
    here = room(name)
    if here not in ROOMS:
        assert here in ("__init__", "__main__", "cli")
        return
    for imported in imports(MODULES[name]):
        if imported.split(".")[0] != "dilithion_ws":
            continue
        module = module_of(imported)
        if module == "dilithion_ws":
            assert "public" in ROOMS[here], f"{name} imports the package itself"
            assert imported.rpartition(".")[2] in dilithion_ws.__all__, f"{name} imports {imported}"
        else:
            assert module is not None
            assert room(module) in ROOMS[here] | {here}, f"{name} may not import {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_a_room_uses_only_the_libraries_of_its_line(name: str) -> None:
    allowed = THIRD_PARTY.get(room(name), set()) | sys.stdlib_module_names | {"dilithion_ws"}
    assert {imported.split(".")[0] for imported in imports(MODULES[name])} <= allowed


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {
        name: {module_of(imported) for imported in imports(path)} - {None, name, "dilithion_ws"}
        for name, path in MODULES.items()
    }
    while leaves := [name for name, found in graph.items() if not found & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph


@pytest.mark.parametrize("here", SANS_IO)
def test_rooms_without_io_use_none(here: str) -> None:
    for name, path in MODULES.items():
        if room(name) == here:
            assert {imported.split(".")[0] for imported in imports(path)} & IO <= SANS_IO[here], name


@pytest.mark.parametrize(("here", "with_io"), [("gateway", GATEWAY_IO), ("client", CLIENT_IO)])
def test_what_is_decided_is_apart_from_what_is_done(here: str, with_io: set[str]) -> None:
    for path in (PACKAGE / here).rglob("*.py"):
        if path.stem not in with_io:
            assert not {imported.split(".")[0] for imported in imports(path)} & {*IO, "urllib3", "zmq"}, path


def test_no_two_modules_have_the_same_name() -> None:
    counts = Counter(path.stem for path in modules() if not path.stem.startswith("__"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_two_classes_have_the_same_name() -> None:
    counts = Counter(node.name for _, node in classes() if not node.name.startswith("_"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_file_is_long() -> None:
    assert {path.name for path in modules() if len(path.read_text().splitlines()) > MAX_LINES} == set()


def test_constructors_take_few_parameters() -> None:
    counts = {name: len(parameters) for name, parameters in constructors()}
    assert statistics.median(counts.values()) <= MAX_MEDIAN_PARAMETERS
    assert len([name for name, count in counts.items() if count > MAX_PARAMETERS]) <= MAX_LONG_CONSTRUCTORS


def test_few_constructors_take_functions() -> None:
    found = [
        f"{name}({parameter.arg})"
        for name, parameters in constructors()
        for parameter in parameters
        if parameter.annotation is not None and "Callable" in ast.unparse(parameter.annotation)
    ]
    assert len(found) <= MAX_CALLABLE_PARAMETERS, found


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("dilithion_ws.client", ("server", "net", "service", "rpc", "stores", "gateway", "devnode", "cli")),
        ("dilithion_ws", ("gateway", "devnode", "cli")),
    ],
)
def test_importing_a_part_does_not_import_others(module: str, foreign: tuple[str, ...]) -> None:
    code = f"import sys; from {module} import *; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert {room(name) for name in loaded.split() if name.startswith("dilithion_ws.")} & set(foreign) == set()
