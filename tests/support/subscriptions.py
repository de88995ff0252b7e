from __future__ import annotations

from typing import Any

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
