"""The connections of a server by number, and what other threads may do with them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from ..config.limits import Limits
from ..errors import CloseStatus, ConnectionNotFoundError, OutboxFullError
from ..session import Session
from ..util.enums import OfferResult
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, leader_only
from .broadcasts import Broadcasts
from .connection import OPEN, REFUSED, SENT, Connection
from .mailbox import Mailbox
from .message_fast_path import send_to_many

__all__ = ["ConnectionRegistry", "ConnectionSubscriber"]

logger = logging.getLogger("dilithion_ws.net")


class ConnectionRegistry:
    """Knows all connections. The leader adds and removes them. Every thread may look them up and send to them.

    Reading a dictionary is safe while the leader changes it.

    Args:
        limits: the bound of what may be buffered for a client.
        mailbox: commands to the leader.
        wakes: of the threads that deliver events.

    Attributes:
        broadcasts: what the host sends to all clients.
        is_stopping: whether the server accepts no new work.
        bytes_received: bytes received so far.
        bytes_sent_closed: bytes sent so far on connections that are closed.
    """

    def __init__(self, limits: Limits, mailbox: Mailbox, wakes: Sequence[WakeFlag]) -> None:
        self._limits = limits
        self.mailbox = mailbox
        self._by_id: dict[int, Connection] = {}
        self._clients: dict[int, Connection] = {}  # those that were upgraded
        self.broadcasts = Broadcasts(limits, mailbox, self._clients, wakes)
        self._sending_threads: set[int] = set()
        self.is_stopping = False
        self.bytes_received = 0
        self.bytes_sent_closed = 0

    @leader_only
    def add(self, connection: Connection) -> None:
        """Add a new connection."""
        self._by_id[connection.id] = connection

    @leader_only
    def on_open(self, connection: Connection) -> None:
        """Note that a connection was upgraded."""
        self._clients[connection.id] = connection

    @leader_only
    def remove(self, connection: Connection) -> None:
        """Remove a connection that is about to be closed."""
        del self._by_id[connection.id]
        self._clients.pop(connection.id, None)
        self.bytes_sent_closed += connection.bytes_sent

    @any_thread
    def find(self, connection_id: int) -> Connection | None:
        """Return the WebSocket connection of this number, or None."""
        return self._clients.get(connection_id)

    @any_thread
    def all(self) -> list[Connection]:
        """Return all connections, whatever their state."""
        return list(self._by_id.values())

    @any_thread
    def websockets(self) -> list[Connection]:
        """Return the connections that were upgraded."""
        return list(self._clients.values())

    @any_thread
    def sessions(self) -> list[Session]:
        """Return the sessions of the connections that were upgraded."""
        return [connection.session for connection in self.websockets() if connection.session is not None]

    @any_thread
    def subscriber(self, connection_id: int) -> ConnectionSubscriber | None:
        """Return the way to deliver events to a connection, or None if it is closed."""
        connection = self.find(connection_id)
        return None if connection is None else ConnectionSubscriber(connection, self.mailbox)

    # Sending and closing, from any thread

    @any_thread
    def send(self, connection_id: int, data: bytes) -> None:
        """Send whole frames to one client, without blocking.

        Raises:
            ConnectionNotFoundError: it has disconnected.
            OutboxFullError: it does not read, and its write buffer is full.
        """
        connection = self._get(connection_id)
        outbox = self._limits.connections.outbox
        if connection.state is not OPEN:
            raise ConnectionNotFoundError(f"connection {connection_id} is closing")
        thread = threading.get_ident()
        self._sending_threads.add(thread)
        try:
            if connection.unsent > outbox or not self.broadcasts.deliver(connection):
                raise OutboxFullError(
                    f"connection {connection_id} does not read: {connection.unsent} bytes wait, "
                    f"the limit is {outbox} (rpcwebsocketoutbox)"
                )
            result = connection.send(data)
        finally:
            self._sending_threads.discard(thread)
        if result is REFUSED:
            raise ConnectionNotFoundError(f"connection {connection_id} is closing")
        if result is not SENT:
            self.mailbox.post(lambda leader: leader.messages.after_send(connection, result))

    @any_thread
    def broadcast(self, data: bytes) -> int:
        """Send the same frames to all clients. Return how many there are. See `Broadcasts`."""
        thread = threading.get_ident()
        self._sending_threads.add(thread)
        try:
            return self.broadcasts.append(data)
        finally:
            self._sending_threads.discard(thread)

    @any_thread
    def close(self, connection_id: int, status: CloseStatus) -> None:
        """Start the close handshake with one client. Raises ConnectionNotFoundError if it has disconnected."""
        self._close(self._get(connection_id), status)

    @any_thread
    def close_when_idle(self, connection_id: int, status: CloseStatus) -> None:
        """Close one client once its running calls are answered. Do nothing if it has disconnected."""
        connection = self.find(connection_id)
        if connection is not None:
            self.mailbox.post(lambda leader: leader.closer.close_when_idle(connection, status))

    @any_thread
    def recheck_deadline(self, connection_id: int) -> None:
        """Ask the service again until when one client may stay (`Service.on_deadline`)."""
        connection = self.find(connection_id)
        if connection is not None:
            self.mailbox.post(lambda leader: leader.recheck_deadline(connection))

    @any_thread
    def is_sending(self) -> bool:
        """Return whether the calling thread was interrupted while it was sending.

        Such a thread, which is in a signal handler, may hold the lock of a connection that the leader waits for.
        """
        return threading.get_ident() in self._sending_threads

    def _get(self, connection_id: int) -> Connection:
        connection = self.find(connection_id)
        if connection is None:
            raise ConnectionNotFoundError(f"connection {connection_id} is not open")
        return connection

    def _close(self, connection: Connection, status: CloseStatus) -> None:
        self.mailbox.post(lambda leader: leader.closer.start_close(connection, status))


class ConnectionSubscriber:
    """Delivers events to one connection: without blocking, and never into a write buffer that holds something already.

    So a client that does not read costs one batch of events, however many are published. It implements
    `events.subscriber.Subscriber`.

    Args:
        connection: the client.
        mailbox: where it is reported that the socket accepts no more.
    """

    __slots__ = ("connection", "encoder", "mailbox")

    def __init__(self, connection: Connection, mailbox: Mailbox) -> None:
        self.connection = connection
        self.mailbox = mailbox
        self.encoder = connection.encoder

    @property
    def id(self) -> int:
        """The connection's number."""
        return self.connection.id

    @property
    def session(self) -> Session:
        """The connection's session."""
        assert self.connection.session is not None
        return self.connection.session

    @property
    def is_open(self) -> bool:
        """Whether the connection accepts messages."""
        return self.connection.state is OPEN

    @any_thread
    def cancel(self, recipient: Any) -> None:
        """Set `ended` of a recipient. When this returns, nothing more is sent for it."""
        with self.connection.lock:
            recipient.ended = True

    @any_thread
    def try_send(self, data: bytes, recipient: Any) -> OfferResult:
        """Send whole frames. See `Subscriber.try_send`."""
        for _, result in send_to_many(data, (recipient,)):
            return result
        return OfferResult.SENT

    @any_thread
    def send_many(self, data: bytes, recipients: Sequence[Any]) -> list[tuple[Any, OfferResult]]:
        """Send the same frames for many recipients. See `Subscriber.send_many`."""
        return send_to_many(data, recipients)
