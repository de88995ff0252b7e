"""Client libraries and applications of other projects, each with a small program that uses it.

The programs are in `tests/foreign/clients`. The first line of each says what it is, where it is from, and what it checks:

    # client: NAME | pip: PACKAGE | transport: HTTP | checks: calls, batch

A program is called with URL, user and password. It fails unless all is as it should be, and prints the number of blocks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["PROGRAMS", "BLOCKS", "ClientProgram", "install", "version_of"]

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".cache" / f"clients-{sys.version_info[0]}.{sys.version_info[1]}"
BLOCKS = 101
"""The height of the chain that the programs expect, with a wallet `a` that has a balance of 50."""

_TIMEOUT = 90
_INTERPRETERS = {".py": [sys.executable], ".js": ["node"], ".mjs": ["node"], ".sh": ["bash", "-e"], ".java": ["java"]}


class ClientProgram(NamedTuple):
    """One program.

    Attributes:
        path: of the file.
        facts: what its first line says.
    """

    path: Path
    facts: dict[str, str]

    @property
    def name(self) -> str:
        """Its file's name, which is unique."""
        return self.path.name

    @property
    def package(self) -> str:
        """The package that it needs, or ""."""
        return self.facts.get("pip") or self.facts.get("npm") or ""

    @property
    def folder(self) -> Path:
        """Where the package is installed."""
        return FOLDER / "npm" if "npm" in self.facts else FOLDER / self.package.partition("[")[0]

    @property
    def is_available(self) -> bool:
        """Whether everything that it needs is installed."""
        interpreter = _INTERPRETERS[self.path.suffix][0]
        if not shutil.which(self.facts.get("needs", "sh")) or not shutil.which(interpreter):
            return False
        where = self.folder / "node_modules" / self.package if "npm" in self.facts else self.folder
        return not self.package or where.is_dir()

    def run(self, url: str, user: str, password: str) -> str:
        """Run it. Return what it printed last. Raises AssertionError with its output if it fails."""
        is_websocket = self.facts["transport"] == "WebSocket"
        address = url.replace("http://", f"ws://{user}:{password}@") if is_websocket else url
        modules = self.folder / "node_modules"
        program = self.path
        if self.path.suffix == ".mjs":  # modules are found from where the program is
            program = Path(shutil.copy(self.path, self.folder))
        done = subprocess.run(
            [*_INTERPRETERS[self.path.suffix], program, address, user, password],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(self.folder),
                "NODE_PATH": str(modules),
                "CLIENT_FOLDER": str(self.folder),
            },
            check=False,
        )
        assert done.returncode == 0, f"{self.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        lines = done.stdout.split()
        return lines[-1] if lines else ""


def _read(path: Path) -> ClientProgram:
    line = path.read_text().partition("\n")[0].lstrip("#/ ")
    return ClientProgram(path, dict(part.split(": ", 1) for part in line.split(" | ")))


PROGRAMS = sorted(
    (_read(path) for path in (ROOT / "tests" / "foreign" / "clients").iterdir() if path.suffix in _INTERPRETERS),
    key=lambda program: (program.facts["transport"], program.facts["client"].lower()),
)


def install() -> list[str]:
    """Install all packages that are missing. Return the names of those that cannot be installed."""
    missing = [program for program in PROGRAMS if program.package and not program.is_available]
    failed = []
    npm = sorted({program.package for program in missing if "npm" in program.facts})
    if npm:
        folder = FOLDER / "npm"  # as its own prefix, since npm would use a folder above it that has packages
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        if not _succeeds([*command, *npm], folder):
            failed += npm
    for package in sorted({program.package for program in missing if "pip" in program.facts}):
        target = FOLDER / package.partition("[")[0]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]
        if not _succeeds([*command, str(target), package], ROOT):
            shutil.rmtree(target, ignore_errors=True)
            failed.append(package)
    return failed


def _succeeds(command: list[str], folder: Path) -> bool:
    for _ in range(2):  # a registry may be out of reach for a moment
        try:
            if not subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode:
                return True
        except (OSError, subprocess.TimeoutExpired):
            pass
    return False


def version_of(program: ClientProgram) -> str:
    """Return the version of a program's package, or of the command that it needs."""
    if "npm" in program.facts:
        manifest = program.folder / "node_modules" / program.package / "package.json"
        found: str = json.loads(manifest.read_text())["version"]
        return found
    if "pip" in program.facts:
        name = program.package.partition("[")[0].replace("-", "_").lower()
        for path in program.folder.glob("*.dist-info"):
            package, _, version = path.name.removesuffix(".dist-info").rpartition("-")
            if package.replace("-", "_").lower() == name:
                return version
    command = [program.facts.get("needs", "sh"), "--version"]
    text = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (text.stdout or text.stderr).split()
    return next((word.strip('v,"').partition("-")[0] for word in words if word.lstrip('v"')[:1].isdigit()), "")
