"""What a bot in a chat would say about a node. It prints; send the texts where you like.

python examples/chat_bot.py ws://127.0.0.1:8333
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from dilithion_ws.client import Client, EventsLostError, merged

LARGE_FEE = Decimal("0.001")


def text(topic: str, data: dict[str, Any]) -> str | None:
    """Return what to say about an event, or None."""
    match topic, data["kind"]:
        case "blocks", "connected":
            return f"Block {data['height']} with {data['tx_count']} transactions"
        case "blocks", "disconnected":
            return f"Block {data['height']} is gone: the chain was reorganised"
        case "mempool", "added" if (data.get("fee") or 0) >= LARGE_FEE:
            return f"A fee of {data['fee']} for {data['txid'][:12]}"
        case "peers", "banned":
            return f"{data['addr']} is banned"
    return None


def main() -> None:
    """Talk until the program is stopped."""
    with Client(sys.argv[1]) as client:
        events = merged(*(client.subscribe(topic) for topic in ("blocks", "mempool", "peers")))
        while True:
            try:
                for event in events:
                    said = text(event.topic, event.data)
                    if said is not None:
                        print(said, flush=True)
            except EventsLostError as lost:
                print(f"I was away: {lost}", flush=True)


if __name__ == "__main__":
    main()
