"""What a host may know about its clients."""

from __future__ import annotations

from dataclasses import dataclass

from ..net.connection import Connection

__all__ = ["ConnectionInfo", "describe_connection"]


@dataclass(frozen=True)
class ConnectionInfo:
    """One open connection.

    Attributes:
        id: its number, as `send` and `close_connection` take it.
        address: the client's IP address and port.
        user: the name of its user, or None.
        seconds: how long it has been connected.
        in_flight: its calls that are not answered yet.
        unsent_bytes: bytes that the client has not accepted yet.
    """

    id: int
    address: tuple[str, int]
    user: str | None
    seconds: float
    in_flight: int
    unsent_bytes: int


def describe_connection(connection: Connection, now: float) -> ConnectionInfo:
    """Return what is known about an open connection."""
    session = connection.session
    return ConnectionInfo(
        connection.id,
        connection.address,
        None if session is None else session.user,
        max(0.0, now - connection.opened_at),
        connection.in_flight,
        connection.unsent,
    )
