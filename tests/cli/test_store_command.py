"""`dilithion-ws store`."""

from __future__ import annotations

import io
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from dilithion_ws import RpcTable, WebSocketServer
from dilithion_ws.cli.main import main
from dilithion_ws.client import Client

from ..support import RedisServer, needs_redis, wait_for
from ..support.configs import make_config


def fill(store: str) -> tuple[str, int]:
    """Publish twenty events by a server. Return the position."""
    with WebSocketServer(RpcTable(), make_config(event_store=store)) as server:
        server.topic("t")
        for number in range(1, 21):
            server.publish("t", {"n": number, "amount": Decimal("0.10000000")})
        wait_for(lambda: server.events.topic("t").log.position.seq == 20)
        epoch, seq = server.events.topic("t").log.position
        return epoch, seq


def resume(store: str, position: tuple[str, int]) -> list[int]:
    with WebSocketServer(RpcTable(), make_config(event_store=store)) as server:
        server.topic("t")
        wait_for(lambda: not server.events.topic("t").availability.value)
        with Client(server.url) as client:
            subscription = client.subscribe("t", since=(position[0], 10))
            return [subscription.get(10).data["n"] for _ in range(10)]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'other.db'}"
    redis_server: RedisServer = request.getfixturevalue("redis_server")
    return redis_server.url


def test_an_export_is_a_copy(
    tmp_path: Path, other: str, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:{tmp_path / 'events.db'}"
    position = fill(store)
    assert main(["store", "check", "--event-store", store]) == 0
    assert f"t: 20 events up to 20 of epoch {position[0]}" in capsysbinary.readouterr().out.decode()
    assert main(["store", "export", "--event-store", store]) == 0
    lines = capsysbinary.readouterr().out
    assert json.loads(lines.splitlines()[0]) == {"format": "dilithion-ws events", "version": 1}
    assert b'"event":{"n":20,"amount":0.10000000}' in lines

    def import_to(store: str, text: bytes) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        return main(["store", "import", "--event-store", store])

    assert import_to(other, lines) == 0
    assert capsysbinary.readouterr().out == b"20 events were imported\n"
    assert import_to(other, lines) == 1
    assert b"has events already" in capsysbinary.readouterr().err
    assert main(["store", "export", "--event-store", other]) == 0
    again = capsysbinary.readouterr().out
    assert [json.loads(line).get("event") for line in again.splitlines()] == [
        json.loads(line).get("event") for line in lines.splitlines()
    ]
    assert resume(other, position) == list(range(11, 21))


def test_damage_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.db"
    fill(f"sqlite:{path}")
    before = path.read_bytes()
    path.write_bytes(before.replace(b'{"n":10,', b'{"n":99,'))
    changed = path.read_bytes()
    assert main(["store", "check", "--event-store", f"sqlite:{path}"]) == 1
    assert "t: 10 events up to 20" in (text := capsys.readouterr().out)
    assert "9 more are before a gap" in text
    assert "1 events or logs are damaged" in text
    assert path.read_bytes() == changed, "nothing was changed"
    assert {one.name for one in tmp_path.iterdir()} == {"events.db", "events.db-session"}, "nothing was added"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{}\n", "line 1 of the export can't be used: it is not an export"),
        (b'{"format":"dilithion-ws events","version":2}\n', "line 1"),
        (b'{"format":"dilithion-ws events","version":1}\n{"topic":"t","seq":1,"at":1,"event":{}}\n', "line 2"),
        (b'{"format":"dilithion-ws events","version":1}\n{"topic":"t"', "line 2"),
    ],
)
def test_what_is_no_export(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: bytes,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["store", "import", "--event-store", f"sqlite:{tmp_path / 'events.db'}"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("store", ["memory", "redis://127.0.0.1:1/0", "sqlite:/"])
def test_a_store_that_cannot_be_read(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "check", "--event-store", store]) == 1
    assert capsys.readouterr().err.startswith("dilithion-ws: ")
