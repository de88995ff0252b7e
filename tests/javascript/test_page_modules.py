"""The page's modules that know no document, in Node.js, and the one script that all modules become."""

from __future__ import annotations

import re
from pathlib import Path

from dilithion_ws.service.page import page

from ..support.commands import ROOT
from ..support.programs import needs_node
from .test_client import node

pytestmark = needs_node


def test_the_modules_own_tests() -> None:
    program = ROOT / "tests" / "javascript" / "page.test.mjs"
    done = node("node", "--test", program, environment={"PAGE": str(ROOT / "dilithion_ws" / "service" / "page")})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_modules_are_one_valid_script(tmp_path: Path) -> None:
    """Names of all modules share a scope there."""
    text = page("localhost").body.decode()
    script = tmp_path / "page.mjs"
    script.write_text(text.partition('<script type="module">')[2].partition("</script>")[0])
    assert re.findall(r"^import .* from (.*);$", script.read_text(), re.MULTILINE) == ["'./client.js'"]
    done = node("node", "--check", script)
    assert done.returncode == 0, done.stderr
