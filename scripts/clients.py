"""See scripts/clients."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dilithion_ws import Config
from dilithion_ws.gateway import Gateway, GatewayConfig
from tests.support.client_programs import BLOCKS, PROGRAMS, ClientProgram, install, version_of
from tests.support.gateways import ready
from tests.support.litecoin import Litecoin, with_wallets

PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- made by scripts/clients -->", "<!-- end -->"
HEAD = "| client | version | from | transport | checked | through the gateway |\n|---|---|---|---|---|---|\n"


def main() -> int:
    """Do what the options say. Return the exit status."""
    failed = install()
    for package in failed:
        print(f"{package} could not be installed", file=sys.stderr)
    if "--install" in sys.argv:
        return 1 if failed else 0
    with tempfile.TemporaryDirectory() as folder:
        node = with_wallets(Path(folder), BLOCKS)
        try:
            rows = [row for program in PROGRAMS if (row := check(program, node))]
        finally:
            node.kill()
    table = HEAD + "".join(rows)
    print(table)
    if "--check" not in sys.argv:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}{END}{rest.partition(END)[2]}")
    return 0 if all("| works |" in row for row in rows) else 1


def check(program: ClientProgram, node: Litecoin) -> str:
    """Run one program. Return its row of the table, or nothing if it is not installed."""
    if not program.is_available:
        print(f"{program.facts['client']}: not installed", file=sys.stderr)
        return ""
    config = GatewayConfig(upstream=node.url, upstream_cookie=str(node.cookie), poll_interval=0.05)
    with Gateway(config, Config(user="alice", password="correct-horse")) as gateway:
        ready(gateway)
        try:
            found = program.run(f"http://127.0.0.1:{gateway.server.port}", "alice", "correct-horse")
            outcome = "works" if found == str(BLOCKS) else f"printed {found!r}"
        except AssertionError as error:
            print(error, file=sys.stderr)
            outcome = "fails"
    facts = program.facts
    source = next((kind for kind in ("pip", "npm") if kind in facts), facts.get("of", ""))
    source = {"pip": "PyPI", "npm": "npm"}.get(source, source)
    cells = (facts["client"], version_of(program), source, facts["transport"], facts["checks"], outcome)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(main())
