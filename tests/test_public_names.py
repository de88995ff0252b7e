"""Every public name can be imported, and the documentation uses no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dilithion_ws

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PUBLIC_MODULES = {
    "dilithion_ws",
    "dilithion_ws.client",
    "dilithion_ws.devnode",
    "dilithion_ws.gateway",
    "dilithion_ws.events.node_events",
}
_IMPORT = re.compile(r"^\s*(?:>>> )?from (dilithion_ws[\w.]*) import \(?([\w, ]+)", re.MULTILINE)


@pytest.mark.parametrize("name", dilithion_ws.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(dilithion_ws, name) is not None


def test_other_names_are_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'dilithion_ws' has no attribute 'nothing'"):
        dilithion_ws.nothing  # noqa: B018 - it must raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documentation_imports_public_names_only(page: Path) -> None:
    for module, names in _IMPORT.findall(page.read_text()):
        assert module in PUBLIC_MODULES, f"{page.name} imports from {module}"
        public = __import__(module, fromlist=["__all__"]).__all__
        for name in names.split(","):
            assert not name.strip() or name.strip() in public, f"{page.name} imports {name} from {module}"
