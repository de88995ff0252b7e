"""The call `rpc.statistics`: who may make it, and what it returns."""

from __future__ import annotations

import json
from pathlib import Path

from dilithion_ws import __version__
from dilithion_ws.auth.api_tokens import hash_token

from ..support.fixtures import ClientFactory, ServerFactory


def test_the_numbers_are_those_of_the_server(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server)
    client.call("add", 1)
    client.call("add", "x")
    client.call("subscribe", "blocks")
    found = client.call("rpc.statistics")["result"]
    assert found["version"] == __version__
    assert 0 <= found["uptime"] < 60
    assert found["connections"]["by_state"]["open"] == 1
    assert found["topics"]["blocks"]["subscriptions"] == 1
    method = found["methods"]["add"]
    assert (method["succeeded"], method["failed"]) == (1, 1)
    assert method["seconds"] > 0
    assert found["refusals"] == dict(server.statistics().refusals)
    assert found["refusals"]["locked out"] == 0, "also those of which there were none"


def test_only_those_who_may_see_the_metrics_may_see_them(
    start: ServerFactory, connect: ClientFactory, tmp_path: Path
) -> None:
    tokens = {
        name: {"token_hash": hash_token(f"dilithion_{name * 40}").hex(), "role": role}
        for name, role in (("r", "readonly"), ("m", "metrics"))
    }
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"version": 1, "users": {}, "tokens": tokens}))
    users.chmod(0o600)
    server = start(user="admin", password="adminadmin", users_file=str(users))
    answers = {}
    for name in tokens:
        client = connect(server)
        client.call("authenticate", "__token__", f"dilithion_{name * 40}")
        answers[name] = client.call("rpc.statistics")
    assert answers["r"]["error"]["code"] == -32003
    assert answers["m"]["result"]["version"] == __version__
