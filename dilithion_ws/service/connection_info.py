"""What a host may know of its clients."""

from __future__ import annotations

from dataclasses import dataclass

from ..net.connection import Connection

__all__ = ["ConnectionInfo"]


@dataclass(frozen=True)
class ConnectionInfo:
    """One open connection at one moment.

    Attributes:
        id: its number, as `send` and `close_connection` take it.
        address: the client's IP address and port.
        user: who authenticated, None for nobody.
        seconds: how long it has been connected.
        in_flight: its calls that wait for a worker or run in one.
        unsent_bytes: what the client has not taken yet.
    """

    id: int
    address: tuple[str, int]
    user: str | None
    seconds: float
    in_flight: int
    unsent_bytes: int

    @classmethod
    def of(cls, connection: Connection, now: float) -> ConnectionInfo:
        """What is known of a connection."""
        return cls(
            connection.id,
            connection.address,
            connection.session.user,
            max(0.0, now - connection.opened_at),
            connection.in_flight,
            connection.unsent,
        )
