from __future__ import annotations

import threading
from typing import Any

import pytest

from dilithion_ws import WebSocketServer

from . import RawClient


def block(height: int, kind: str = "connected") -> dict[str, Any]:
    return {
        "kind": kind,
        "height": height,
        "hash": f"{height:064x}",
        "previousblockhash": f"{height - 1:064x}",
        "time": 1_737_158_400 + height,
        "tx_count": 1,
    }


def subscribe(client: RawClient, topic: str = "blocks", **options: Any) -> Any:
    client.request("subscribe", {"topic": topic, **options}, id="s")
    answer = client.answer()
    assert answer.get("id") == "s", f"{answer} came before the reply"
    return answer.get("result", answer)


def events(client: RawClient, count: int) -> list[Any]:
    return [client.answer()["params"] for _ in range(count)]


def hold_subscribe(server: WebSocketServer, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Have a server answer no `subscribe` until the first event is set. It sets the second one when it has."""
    original, go_on, done = server.events.subscribe, threading.Event(), threading.Event()

    def subscribe(*args: Any, **options: Any) -> Any:
        go_on.wait(20)
        found = original(*args, **options)
        done.set()
        return found

    monkeypatch.setattr(server.events, "subscribe", subscribe)
    return go_on, done
