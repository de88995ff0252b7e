"""Clients of Bitcoin Core's family, and of JSON-RPC over WebSocket, through a gateway, as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dilithion_ws import Config
from dilithion_ws.gateway import Gateway, GatewayConfig

from ..support.client_programs import BLOCKS, PROGRAMS, ClientProgram
from ..support.gateways import ready
from ..support.litecoin import Litecoin, needs_litecoind, with_wallets

pytestmark = [needs_litecoind, pytest.mark.timeout(120)]

USER, PASSWORD = "alice", "correct-horse"


class Served(NamedTuple):
    """A node with a chain, and a gateway in front of it."""

    node: Litecoin
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    node = with_wallets(tmp_path_factory.mktemp("litecoin"), BLOCKS)
    config = GatewayConfig(upstream=node.url, upstream_cookie=str(node.cookie), poll_interval=0.05)
    gateway = Gateway(config, Config(user=USER, password=PASSWORD))
    try:
        with gateway:
            ready(gateway)
            yield Served(node, f"http://127.0.0.1:{gateway.server.port}")
    finally:
        node.kill()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_client_works_unchanged(program: ClientProgram, served: Served) -> None:
    if not program.is_available:
        if program.facts.get("of") == "Java":
            return  # a machine without Java has no such client
        pytest.skip(f"needs {program.package or program.facts['needs']} (scripts/clients --install)")
    assert program.run(served.url, USER, PASSWORD) == str(BLOCKS)


def test_the_table_of_the_documentation_has_all_of_them() -> None:
    text = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
    assert len(PROGRAMS) >= 25
    assert [program.facts["client"] for program in PROGRAMS if program.facts["client"] not in text] == []
