"""The files for deployments agree with the package."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCKED = (ROOT / "deploy" / "requirements.txt").read_text()
RUNTIME_EXTRAS = {"gateway", "prometheus", "redis", "speed", "zmq"}


def runtime_requirements() -> list[Requirement]:
    """What the package and its extras for deployments need."""
    found = [Requirement(text) for text in importlib.metadata.requires("dilithion-ws") or ()]
    extras = [{"extra": extra} for extra in ("", *RUNTIME_EXTRAS)]
    return [one for one in found if one.marker is None or any(map(one.marker.evaluate, extras))]


@pytest.mark.parametrize("requirement", runtime_requirements(), ids=str)
def test_every_dependency_is_locked_with_its_hashes(requirement: Requirement) -> None:
    blocks = re.findall(rf"^{requirement.name}==(\S+)[^\n]*\\\n((?:    --hash=\S+[^\n]*\n)+)", LOCKED, re.MULTILINE)
    assert blocks
    for version, hashes in blocks:
        assert requirement.specifier.contains(version)
        assert re.fullmatch(r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", hashes)


def test_no_index_is_named() -> None:
    assert "http" not in LOCKED
    assert "--index" not in LOCKED
