"""What OpenRPC's generator makes of the document of the development node compiles."""

from __future__ import annotations

from pathlib import Path

from dilithion_ws.client import Client
from dilithion_ws.devnode import DevNode

from ..support.devnode import serve_devnode
from ..support.openrpc_generator import generate
from ..support.programs import needs_node


@needs_node
def test_of_the_development_node(tmp_path: Path) -> None:
    with serve_devnode(DevNode(seed=1)) as server, Client(server.url) as client:
        text = generate(client.call("rpc.discover"), tmp_path)
    assert "export type GetblockhashHeight = number;" in text
    assert "public getblockhash: Getblockhash" in text
    assert "export type GetblockcountResult = number;" in text
