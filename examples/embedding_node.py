"""A node that embeds the server: methods, events, and a chain that clients can resume from.

python examples/embedding_node.py [PORT]
"""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
import time
from typing import Any

from dilithion_ws import Config, RpcError, RpcTable, WebSocketServer

chain: list[dict[str, Any]] = []
known: dict[str, dict[str, Any]] = {}
rpc = RpcTable(title="Example node", version="1.0")


@rpc.method(permission="READ_BLOCKCHAIN", position_of="blocks")
def getblockcount() -> int:
    """Get the height of the chain"""
    return len(chain) - 1


@rpc.method(permission="READ_BLOCKCHAIN")
def getblockhash(height: int) -> str:
    """Get the hash of a block"""
    if not 0 <= height < len(chain):
        raise RpcError(-8, "Block height out of range")
    return str(chain[height]["hash"])


def mine() -> dict[str, Any]:
    """Add a block. The chain is changed first, and published afterwards."""
    previous = chain[-1]["hash"] if chain else "00" * 32
    hash = hashlib.sha256(f"{previous}{len(chain)}".encode()).hexdigest()
    block = {"height": len(chain), "hash": hash, "previousblockhash": previous, "time": int(time.time()), "tx_count": 1}
    known[hash] = block
    chain.append(block)
    return block


def main() -> None:
    """Mine a block each second until a signal comes."""
    server = WebSocketServer(rpc, Config(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8333))
    server.history("blocks", lambda height, count: chain[height : height + count], known.get)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with server:
        print(f"Listening on {server.url}", flush=True)
        while not stopping.wait(1.0):
            server.publish("blocks", {**mine(), "kind": "connected"})


if __name__ == "__main__":
    main()
