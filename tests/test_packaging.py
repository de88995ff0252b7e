"""What is released: the wheel has all that runs, and the sdist all that is in the repository."""

from __future__ import annotations

import email
import email.message
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dilithion_ws import __version__

ROOT = Path(__file__).parent.parent
NOT_RELEASED = {".gitignore"}


def tracked_files() -> list[str]:
    """Return the files of the repository."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist and of a wheel that was built from the unpacked sdist, by the tool that pip uses."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    folder = tmp_path_factory.mktemp("released")
    source = folder / "source"
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
        os.chmod(source / name, (ROOT / name).stat().st_mode)
    _build("build_sdist", source, folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    _build("build_wheel", next((folder / "unpacked").iterdir()), folder)
    return folder


def _build(hook: str, source: Path, target: Path, **environment: str) -> None:
    program = f"import setuptools.build_meta as b; b.{hook}({str(target)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def wheel_of(folder: Path) -> zipfile.ZipFile:
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata_of(folder: Path) -> email.message.Message:
    wheel = wheel_of(folder)
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(name))


def test_the_sdist_has_every_file_of_the_repository(released: Path) -> None:
    unpacked = next((released / "unpacked").iterdir())
    missing = [name for name in tracked_files() if not (unpacked / name).exists() and name not in NOT_RELEASED]
    assert missing == []
    assert os.access(unpacked / "scripts" / "run", os.X_OK)


def test_the_tests_run_from_the_sdist(released: Path) -> None:
    unpacked = next((released / "unpacked").iterdir())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/rpc/test_params.py",
        "tests/config",
    ]
    done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_wheel_has_the_package_and_nothing_else(released: Path) -> None:
    found = {name for name in wheel_of(released).namelist() if ".dist-info/" not in name}
    assert found == {name for name in tracked_files() if name.startswith("dilithion_ws/")}
    assert {"dilithion_ws/py.typed", "dilithion_ws/service/client.js", "dilithion_ws/service/page/main.js"} <= found


def test_the_metadata_is_complete(released: Path) -> None:
    metadata = metadata_of(released)
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Summary"]
    assert metadata["Keywords"]
    assert "Typing :: Typed" in (metadata.get_all("Classifier") or [])
    assert metadata.get_all("Project-URL")
    assert not [name for name in metadata.get_all("Classifier") or [] if name.startswith("License ::")]


def test_links_of_the_description_are_absolute_in_a_release(released: Path) -> None:
    unpacked = next((released / "unpacked").iterdir())
    target = released / "linked"
    target.mkdir()
    _build(
        "build_wheel",
        unpacked,
        target,
        DILITHION_WS_SOURCE="https://example.org/blob/v1",
        DILITHION_WS_IMAGES="https://raw.example.org/v1/",
    )
    links = re.findall(r"\]\(([^)]+)\)", str(metadata_of(target).get_payload()))
    assert "https://example.org/blob/v1/docs/tutorial.md" in links
    assert "https://raw.example.org/v1/docs/terminal.svg" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_two_builds_are_equal(released: Path) -> None:
    """The version is in a file, and nothing depends on the time or the folder of the build."""
    unpacked = next((released / "unpacked").iterdir())
    again = released / "again"
    again.mkdir()
    _build("build_wheel", unpacked, again)
    first, second = wheel_of(released), wheel_of(again)
    assert {name: first.read(name) for name in first.namelist()} == {
        name: second.read(name) for name in second.namelist()
    }
