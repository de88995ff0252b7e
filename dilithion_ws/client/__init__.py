"""A client: calls, and events that survive a lost connection. Synchronous, for any number of threads.

    from dilithion_ws.client import Client

    with Client("ws://127.0.0.1:8333", user="alice", password=secret) as client:
        print(client.call("getblockcount"))
        for event in client.subscribe("blocks"):
            print(event.data["height"], event.data["hash"])

Concurrency. All methods may be called from any thread. One thread of the client's own reads, answers pings, and connects
again when the connection is lost; subscriptions then continue after the last event received.
"""

from ..events.log import Position
from .client import Client
from .exceptions import (
    CallTimeoutError,
    CertificateError,
    ClientError,
    ConnectionLostError,
    EventsLostError,
    RefusedError,
)
from .merged import merged
from .places import AfterBlock
from .position_store import PositionStore
from .subscription import Event, Subscription

__all__ = [
    "AfterBlock",
    "CallTimeoutError",
    "CertificateError",
    "Client",
    "ClientError",
    "ConnectionLostError",
    "Event",
    "EventsLostError",
    "Position",
    "PositionStore",
    "RefusedError",
    "Subscription",
    "merged",
]
