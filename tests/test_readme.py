"""What the README shows works as it stands there, ports aside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .support.commands import ROOT, serving

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
    assert code.endswith("server.wait()\n")
    run(code.replace("port=8333", "port=0").replace("server.wait()", "server.stop()"))


def test_the_client_example() -> None:
    code = blocks("python")[1]
    assert "ws://localhost:8333" in code
    with serving("--dev") as (_, port):
        assert '"result": ' in run(code.replace(":8333", f":{port}")).replace("'", '"')


def test_the_example_of_our_own_client() -> None:
    code = blocks("python")[2]
    assert "ws://localhost:8333" in code
    with serving("--dev", "--block-interval", "0.2") as (_, port):
        height, event = run(code.replace(":8333", f":{port}")).splitlines()
        assert int(height) >= 109
        assert event.split()[1] in ("connected", "disconnected")


def test_the_examples_about_events() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    *others, following, for_asyncio = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(others) == 3
    for example in others:
        run(example)
    with serving("--dev", "--block-interval", "0.2") as (_, port):
        for code in (following, for_asyncio):
            code = re.sub(r'(\n +)print\(.*event.*"hash"\]\)', r"\g<0>\1exit()", code.replace(":8333", f":{port}"))
            assert len(run(code).splitlines()) == 2


def test_the_commands_for_a_shell(tmp_path: Path) -> None:
    """Each line of the README and of docs/events.md that calls a client."""
    text = README + (ROOT / "docs" / "events.md").read_text()
    lines = sorted(set(re.findall(r"^    dilithion-ws ((?:call|watch) .+)$", text, re.MULTILINE)))
    assert len(lines) >= 4
    with serving("--dev", "--block-interval", "0.1") as (_, port):
        for line in lines:
            more = ["--count", "1"] if line.startswith("watch") and "--count" not in line else []
            command = [sys.executable, "-m", "dilithion_ws", *line.split(), *more, "--url", f"ws://127.0.0.1:{port}"]
            result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
            assert result.returncode == 0, result.stderr
            assert result.stdout


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_scripts_that_it_names_can_be_run() -> None:
    named = set(re.findall(r"scripts/(\w+)", README))
    assert {"run", "test", "smoke", "autobahn"} <= named
    for name in named:
        path = Path(ROOT / "scripts" / name)
        assert path.stat().st_mode & 0o100, name
