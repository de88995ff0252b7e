"""The connection of a client, which is renewed whenever it is lost, and the calls that wait for their answers.

One thread connects, reads, and connects again. What it does then is in the methods `on_connected`, `on_message`,
`on_connection_lost` and `on_connect_failed`, which a test calls in any order, without a thread, a socket or time.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from ..errors import CloseCode, RpcError
from ..util.clock import Clock, Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only
from .awaited_reply import Reply
from .client_connection import ClientConnection, ConnectionOptions
from .exceptions import CertificateError, ClientError, ConnectionLostError, RefusedError

__all__ = ["ConnectionListener", "ReconnectingConnection", "encode"]

logger = logging.getLogger("dilithion_ws.client")

encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_FINAL_CODES = (CloseCode.NOT_AUTHENTICATED, CloseCode.FORBIDDEN, CloseCode.TIMED_OUT)
_JOIN_SECONDS = 2.0
_STEADY_SECONDS = 5.0
"""How long a connection must have held for the next pause to be the first one again."""


class ConnectionListener(Protocol):
    """What a connection reports, in the reading thread."""

    def on_open(self) -> None:
        """Handle a new connection."""

    def on_event(self, params: dict[str, Any], size: int, more: bool) -> None:
        """Handle the params of an event of `size` bytes. `more` events about the same place come with it."""

    def on_end(self, failure: ClientError | None) -> None:
        """Handle that no other connection will be made: for this reason, or, if None, because the client was closed."""


class ReconnectingConnection:
    """Connects again whenever the connection is lost. Thread-safe.

    Args:
        settings: how to connect.
        backoff: seconds between two attempts to connect: at first and at most.
        listener: gets events.
        clock: seconds that never go backwards.
        patient: whether it goes on trying until there is a first connection.

    Attributes:
        ids: numbers for calls.
        replies: by id: gets the answer.
        batches: get errors that have no id.
        positions: by id: what the answer says of a topic's log; None until it is there.
        connection: the present connection, or None.
    """

    def __init__(
        self,
        settings: ConnectionOptions,
        backoff: tuple[float, float],
        listener: ConnectionListener,
        clock: Clock = monotonic,
        patient: bool = True,
    ) -> None:
        self._settings = settings
        self._patient = patient
        self._last_error: Exception | None = None
        self._backoff = backoff
        self._listener = listener
        self._clock = clock
        self._next_pause = backoff[0]
        self._connected_at = 0.0
        self.ids = itertools.count(1)
        self.replies: dict[int, Reply] = {}
        self.batches: list[Reply] = []
        self.positions: dict[int, Any] = {}
        self._changed = threading.Condition()  # guards all below
        self.connection: ClientConnection | None = None
        self._failure: ClientError | None = None
        self._is_closing = False
        self._thread: threading.Thread | None = None

    @any_thread
    def start(self) -> None:
        """Start the thread, if it was not started before."""
        with self._changed:
            if self._thread is None and not self._is_closing:
                self._thread = threading.Thread(target=self._run, name="dilithion-ws-client", daemon=True)
                self._thread.start()

    @any_thread
    def close(self) -> None:
        """Close the connection and make no other."""
        with self._changed:
            self._is_closing = True
            connection, thread = self.connection, self._thread
            self._changed.notify_all()
        if connection is not None:
            connection.shutdown()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)

    @property
    def is_over(self) -> bool:
        """Whether no other connection will be made."""
        with self._changed:
            return self._is_closing or self._failure is not None

    @any_thread
    def request(
        self, method: str, params: Any, reply: Reply, deadline: Deadline | None, *, with_position: bool = False
    ) -> int:
        """Send a call. `reply` receives its answer, or the loss of the connection. Return its id.

        Args:
            method, params: what is called.
            reply: called in the reading thread.
            deadline: for a connection, and for sending; None does not wait for either, and may be used in any thread.
            with_position: whether `positions` gets the position in the answer. Take it out of there.

        Raises:
            ClientError: it could not be sent.
        """
        connection = self.connected(deadline) if deadline is not None else self.connection
        if connection is None:
            raise ConnectionLostError("there is no connection at the moment")
        id = next(self.ids)
        text = encode({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).decode()
        self.replies[id] = reply
        if with_position:
            self.positions[id] = None
        try:
            if deadline is None:
                connection.post(text)
            else:
                connection.send(text, deadline.remaining())
        except BaseException:
            self.replies.pop(id, None)
            raise
        # Lost meanwhile? The reading thread may have passed the list before this was in it.
        if self.connection is not connection and self.replies.pop(id, None) is not None:
            reply(None, ConnectionLostError("the connection was lost before the answer came"))
        return id

    @any_thread
    def connected(self, deadline: Deadline) -> ClientConnection:
        """Return the connection, if necessary after waiting until the deadline. Raise ClientError if there is none."""
        with self._changed:
            while self.connection is None:
                if self._failure is not None:
                    raise self._failure
                if self._is_closing:
                    raise ConnectionLostError("the client is closed")
                if not self._changed.wait(deadline.remaining()):
                    last = "" if self._last_error is None else f"; last: {self._last_error}"
                    raise ConnectionLostError(f"no connection to {self._settings.url} in time{last}")
            return self.connection

    @owner_only
    def on_connected(self, connection: ClientConnection) -> None:
        """Use a connection from now on."""
        self._connected_at = self._clock()
        self._patient = True
        with self._changed:
            self.connection = connection
            self._changed.notify_all()
        if self._is_closing:
            connection.shutdown()
        self._listener.on_open()

    @owner_only
    def on_connection_lost(self, connection: ClientConnection) -> float | None:
        """Report the loss to the calls that wait for an answer.

        Returns:
            Seconds until the next attempt to connect, or None if there is none: the client is closed, or the server has
            closed for good.
        """
        with self._changed:
            self.connection = None
        if self._clock() - self._connected_at >= _STEADY_SECONDS:
            self._next_pause = self._backoff[0]
        lost = ConnectionLostError(
            f"the connection was lost: {connection.close_code} {connection.close_reason}".rstrip()
        )
        for id in list(self.replies):
            if (reply := self.replies.pop(id, None)) is not None:
                reply(None, lost)
        if connection.close_code in _FINAL_CODES:
            self._give_up(RefusedError(connection.close_code, connection.close_reason))
            return None
        return self._pause()

    @owner_only
    def on_connect_failed(self, error: Exception) -> float | None:
        """Decide what follows an attempt that has failed. Return seconds until the next one, or None if there is none."""
        if isinstance(error, (RefusedError, CertificateError)):
            self._give_up(error)
            return None
        self._last_error = error
        if not self._patient and isinstance(error, ClientError):
            self._give_up(error)
            return None
        if not isinstance(error, ClientError):
            logger.error("connecting to %s failed", self._settings.url, exc_info=error)
            self._give_up(ConnectionLostError(f"can't connect to {self._settings.url}: {error}"))
            return None
        logger.debug("connecting to %s failed: %s", self._settings.url, error)
        return self._pause()

    @owner_only
    def on_message(self, message: str | bytes) -> None:
        """Pass an answer to its call, or an event to the listener. Ignore everything else."""
        try:
            found = _decode(message) if isinstance(message, str) else None
        except msgspec.DecodeError:
            return  # a broadcast of the host's, which may be anything
        items = found if isinstance(found, list) else [found]
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                continue
            if item.get("method") == "subscription":
                self._listener.on_event(item["params"], len(message) // len(items), index < len(items) - 1)
                continue
            id, error = item.get("id"), item.get("error")
            reply = self.replies.pop(id, None) if isinstance(id, int) else None
            if reply is None and id is None and error is not None and self.batches:
                reply = self.batches[0]
            if reply is None:
                continue  # something of the host's, or the answer to a call that was given up
            if error is None:
                if id in self.positions:
                    self.positions[id] = item.get("position")
                reply(item.get("result"), None)
            else:
                reply(None, RpcError(error.get("code", 0), error.get("message", ""), error.get("data")))

    def _run(self) -> None:
        pause: float | None = 0.0
        while pause is not None:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing, pause)
            if self._is_closing:
                self._give_up(ConnectionLostError("the client is closed"))
                return
            try:
                connection = ClientConnection(self._settings, lambda: self._is_closing)
            except Exception as error:
                pause = self.on_connect_failed(error)
            else:
                self._read(connection)
                pause = self.on_connection_lost(connection)

    def _read(self, connection: ClientConnection) -> None:
        """Read one connection to its end."""
        try:
            self.on_connected(connection)
            for message in connection.messages():
                self.on_message(message)
        except ClientError as error:
            logger.warning("the connection to %s can't be used: %s", self._settings.url, error)
        except Exception:
            logger.exception("the connection to %s can't be used", self._settings.url)
        finally:
            with self._changed:
                self.connection = None  # so that calls wait for the next connection while this one is closed
            connection.shutdown()
            connection.close()

    def _pause(self) -> float | None:
        """Return the pause before the next attempt, at random from its second half. The next pause is twice as long."""
        if self._is_closing:
            self._give_up(ConnectionLostError("the client is closed"))
            return None
        pause = self._next_pause * random.uniform(0.5, 1.0)
        self._next_pause = min(self._backoff[1], self._next_pause * 2)
        return pause

    def _give_up(self, failure: ClientError) -> None:
        """Make no other connection."""
        with self._changed:
            if not self._is_closing:
                self._failure = failure
            self._changed.notify_all()
        self._listener.on_end(None if self._is_closing else failure)
