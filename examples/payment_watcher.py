"""Waits for payments to addresses, and prints each once it has enough confirmations. It goes on where it was.

python examples/payment_watcher.py ws://127.0.0.1:8333 CONFIRMATIONS ADDRESS...
"""

from __future__ import annotations

import sys

from dilithion_ws.client import Client, EventsLostError, PositionStore


def main() -> None:
    """Watch until the program is stopped."""
    url, wanted, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    store = PositionStore("payments.json")
    with Client(url) as client:
        filter = {"address": addresses, "confirmations": wanted}
        payments = client.subscribe("transactions", filter=filter, since=store.load("payments"))
        while True:
            try:
                for event in payments:
                    data = event.data
                    if data["kind"] == "confirmed" and data["confirmations"] == wanted:
                        print(f"{data['txid']} to {', '.join(data['addresses'])}: paid", flush=True)
                    elif data["kind"] in ("unconfirmed", "dropped"):
                        print(f"{data['txid']}: {data['kind']}, {data.get('reason', 'a reorganisation')}", flush=True)
                    store.save("payments", event.since)  # after the work: a crash repeats an event, and loses none
            except EventsLostError as lost:
                print(f"{lost}: look at these addresses by hand", file=sys.stderr)


if __name__ == "__main__":
    main()
