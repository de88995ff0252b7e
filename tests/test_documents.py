"""The documents: their links lead somewhere, their programs run, and the codes that they list are the server's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from benchmarks.attacks import ATTACKS
from dilithion_ws import CloseCode, Config, JsonRpcCode, Limits, RpcTable, WebSocketServer
from dilithion_ws.config.fields import settings_of

from .support import free_port
from .support.client_programs import PROGRAMS

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_that_ends_at_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", program("life_cycle.py")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("Listening on ws://")
    process.send_signal(number)
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


# Numbers that several pages state


@pytest.mark.parametrize(
    ("page", "text", "limit"),
    [
        ("wire-protocol.md", r"after (\d+) failures", "login_failures"),
        ("wire-protocol.md", r"or (\d+) seconds without success", "authentication_timeout"),
        ("wire-protocol.md", r"batch of more than (\d+)", "batch_size"),
        ("wire-protocol.md", r"calls \((\d+) if the node is of", "core_batch_size"),
        ("wire-protocol.md", r"accepts no data\s+for (\d+) seconds", "write_stall"),
        ("embedding.md", r"waits up to (\d+) seconds for\s+running calls", "drain_timeout"),
        ("embedding.md", r"A call has (\d+) seconds", "call_timeout"),
        ("faq.md", r"accepts nothing for (\d+) seconds", "write_stall"),
        ("security.md", r"limits\. (\d+) connections may be", "unauthenticated_connections"),
        ("http.md", r"`rpcwebsocketkeepalivetimeout` seconds \((\d+)", "keep_alive_timeout"),
        ("http.md", r"The client has (\d+) seconds for a body", "handshake_timeout"),
        ("architecture.md", r"occupy at most (\d+) of these", "calls_per_user"),
        ("architecture.md", r"If the queue of (\d+)\s+is full", "queue"),
        ("architecture.md", r"for up to (\d+) such calls", "overdue_calls"),
        ("architecture.md", r"turn it looks at (\d+) frames", "frames_per_turn"),
    ],
)
def test_a_number_is_the_default_of_its_limit(page: str, text: str, limit: str) -> None:
    found = re.search(text, (ROOT / "docs" / page).read_text())
    assert found is not None
    (default,) = [setting.default for setting in settings_of(Limits) if setting.name == limit]
    assert float(found[1]) == default


def test_the_number_of_attacks_and_of_clients_is_right() -> None:
    security, readme = (ROOT / "docs" / "security.md").read_text(), (ROOT / "README.md").read_text()
    assert f"in {len(ATTACKS)} ways" in security
    assert f"[{len(PROGRAMS)} client libraries and applications]" in readme


# The metrics of docs/http.md


def test_the_listed_metrics_are_those_of_a_server(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "http.md").read_text().partition("## Metrics\n")[2]
    listed = {name.replace("…", "dilithion_ws") for name in re.findall(r"`(…\w+|dilithion_\w+)(?:\{[^`]*)?`", text)}
    with WebSocketServer(RpcTable(), Config(event_store=f"sqlite:{tmp_path / 'events.db'}")) as server:
        shown = urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10).read().decode()
    own = {name for name in listed if name.startswith("dilithion_ws")}
    named = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\w+)", shown, re.MULTILINE)}
    assert {name.removesuffix("_total") for name in own} == {name for name in named if name.startswith("dilithion_ws_")}


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
