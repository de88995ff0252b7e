"""The documents: their links lead somewhere, their programs run, and the codes that they list are the server's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dilithion_ws import CloseCode, JsonRpcCode

from .support import free_port

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "javascript" / "README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as renderers of Markdown make them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


def links() -> list[tuple[Path, str]]:
    """Return the links of all documents to files."""
    return [
        (document, link)
        for document in DOCUMENTS
        for link in LINK.findall(CODE.sub("", document.read_text()))
        if not re.match(r"\w+:", link)
    ]


@pytest.mark.parametrize(("document", "link"), links(), ids=lambda one: one.name if isinstance(one, Path) else one)
def test_a_link_leads_somewhere(document: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (document.parent / path) if path else document
    assert target.exists()
    if anchor:
        assert anchor in anchors_of(target)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


# The programs of docs/embedding.md


def program(name: str) -> str:
    text = (ROOT / "docs" / "embedding.md").read_text()
    (found,) = re.findall(rf"```python\n# {name}\n(.*?)```", text, re.DOTALL)
    return str(found).replace("port=8333", f"port={free_port()}")


def test_the_program_that_ends_at_a_signal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program("life_cycle.py")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Listening on ws://")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("name", "printed"), [("methods.py", ""), ("futures.py", ""), ("asyncio_host.py", f"{7:064x}\n")]
)
def test_a_program_prints_what_it_should(name: str, printed: str) -> None:
    command = [sys.executable, "-W", "error", "-c", program(name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


def test_the_tests_of_handlers_pass(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_node=program("test_node.py"))
    pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=2)


# The certificate of docs/security.md


def test_a_made_certificate_serves(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    (commands,) = re.findall(r"```sh\n(openssl .*?)```", text, re.DOTALL)
    port = str(free_port())
    program = f'"{sys.executable}" -m dilithion_ws'
    make, serve, call = commands.replace("8333", port).replace("dilithion-ws", program).splitlines()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(["sh", "-c", make], cwd=tmp_path, check=True, capture_output=True)
    process = subprocess.Popen(
        ["sh", "-c", f"exec {serve}"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Listening on wss://")
        done = subprocess.run(["sh", "-c", call], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        process.terminate()
        process.communicate(timeout=20)


# The codes of docs/wire-protocol.md


def section(name: str) -> str:
    text = (ROOT / "docs" / "wire-protocol.md").read_text()
    return text.partition(f"## {name}\n")[2].partition("\n## ")[0]


def test_the_error_codes_are_those_of_the_server() -> None:
    listed = {int(code) for code in re.findall(r"-32\d{3}", section("Calls"))}
    assert listed == {int(code) for code in JsonRpcCode if str(int(code)).startswith("-32")}


def test_the_close_codes_are_those_of_the_server() -> None:
    rows = "".join(re.findall(r"^\| [\d, ]+ \|", section("Close codes"), re.MULTILINE))
    never_sent = {CloseCode.NO_STATUS, CloseCode.ABNORMAL}
    assert {int(code) for code in re.findall(r"\d{4}", rows)} == {int(code) for code in CloseCode} - never_sent
