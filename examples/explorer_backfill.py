"""Keeps all blocks in a database: those from before, those of now, and none of a branch that the chain has left.

python examples/explorer_backfill.py ws://127.0.0.1:8333 explorer.db
"""

from __future__ import annotations

import sqlite3
import sys

from dilithion_ws.client import AfterBlock, Client, Event


def place(db: sqlite3.Connection) -> AfterBlock:
    """Return the last block of the database: where to resume."""
    found = db.execute("SELECT height, hash FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
    return AfterBlock(-1) if found is None else AfterBlock(*found)


def apply(db: sqlite3.Connection, event: Event) -> None:
    """Add a block, or take it out again. The database is its own place: no other file is needed."""
    block = event.data
    with db:
        if event.data["kind"] == "connected":
            row = (block["height"], block["hash"], block["time"], block["tx_count"])
            db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?)", row)
        else:
            db.execute("DELETE FROM blocks WHERE hash = ?", (block["hash"],))


def main() -> None:
    """Follow the chain until the program is stopped."""
    db = sqlite3.connect(sys.argv[2])
    db.execute(
        "CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, hash TEXT, time INTEGER, tx_count INTEGER)"
    )
    with Client(sys.argv[1]) as client:
        tip = client.call("getblockcount")
        for event in client.subscribe("blocks", since=place(db)):
            apply(db, event)
            if event.data["height"] % 1000 == 0 or event.data["height"] >= tip:
                print(f"{event.data['kind']} {event.data['height']}", flush=True)


if __name__ == "__main__":
    main()
