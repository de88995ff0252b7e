"""Clients: calls, and events that survive a lost connection. `Client` is synchronous, `AsyncClient` is for asyncio.

    from dilithion_ws.client import Client

    with Client("ws://127.0.0.1:8333", user="alice", password=secret) as client:
        print(client.call("getblockcount"))
        for event in client.subscribe("blocks"):
            print(event.data["height"], event.data["hash"])

Both run the same core (`client_core`), which knows no socket, thread or event loop. Subscriptions continue after the
last event received when the connection was lost.

Concurrency. All methods of `Client` may be called from any thread. One thread of the client's own reads, answers pings,
and connects again. `AsyncClient` belongs to one event loop; each of its methods may be cancelled.
"""

from ..util.position import Position
from .async_client import AsyncClient
from .async_subscription import AsyncSubscription
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
from .subscription import Subscription
from .subscription_state import Event

__all__ = [
    "AfterBlock",
    "AsyncClient",
    "AsyncSubscription",
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
