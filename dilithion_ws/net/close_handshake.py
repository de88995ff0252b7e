"""How connections end, and what happens when one is silent for too long. Leader only.

Every end is one of these:

    begin     our close frame goes out, the peer's is awaited            OPEN → CLOSING → DRAINING → CLOSED
    answer    the peer's close frame is answered, after its calls        OPEN (→ FINISHING) → DRAINING → CLOSED
    fail      the peer broke the protocol: our close frame, no waiting   OPEN → DRAINING → CLOSED
    refuse    an HTTP answer that is no upgrade                          HANDSHAKE → DRAINING → CLOSED
    drop      nothing can be said any more                               any → CLOSED

The server closes TCP first (RFC 6455 section 7.1.1), but only after the peer has had a moment to close: data that arrives
behind a plain close would make the system reset the connection, and the peer might lose the close frame to that.
"""

from __future__ import annotations

import math
import socket
import ssl

from ..config.limits import limit_reached
from ..errors import CloseCode
from ..protocol.frames import CLOSE, PING, close_payload, frame, split_close
from ..protocol.http_connection import HttpRefusal
from .connection import Connection, ConnectionState
from .reactor import Reactor

__all__ = ["CloseHandshake"]


class CloseHandshake:
    """Ends connections, and keeps their deadlines."""

    def __init__(self, hub: Reactor) -> None:
        self._hub = hub

    def begin(self, connection: Connection, code: int, reason: str) -> None:
        """Starts the closing handshake from our side; nothing happens where it has started already."""
        if connection.state in (ConnectionState.PROXIED, ConnectionState.SECURING):
            self.drop(connection)
        elif connection.state is ConnectionState.HANDSHAKE:
            self.refuse(connection, HttpRefusal(503, reason))
        elif connection.state is ConnectionState.OPEN:
            connection.end = (code, reason)
            if self._say(connection, frame(CLOSE, close_payload(code, reason)), ConnectionState.CLOSING):
                connection.backlog = None
                if connection.stream is not None and connection.stream.ended:
                    self.drain(connection)  # the peer's own close frame was in the backlog
                else:
                    self._wait(connection, self._hub.limits.connections.close_timeout)

    def leave(self, connection: Connection, code: int, reason: str) -> None:
        """Starts the closing handshake once the calls that run now have been answered; takes no more of them."""
        if connection.in_flight and connection.state is ConnectionState.OPEN:
            connection.leaving = (code, reason)
            self._hub.arm(connection)
        else:
            self.begin(connection, code, reason)

    def answer(self, connection: Connection, payload: bytes) -> None:
        """The peer has sent a close frame: answers it, after the calls that came before it."""
        closing_was_ours = connection.state is ConnectionState.CLOSING
        if not closing_was_ours:
            connection.end = split_close(payload)
        if closing_was_ours:
            self.drain(connection)
        elif connection.in_flight:
            with connection.lock:
                connection.become(ConnectionState.FINISHING)
            self._wait(connection, self._hub.limits.connections.close_timeout)
        else:
            self.finish(connection)

    def finish(self, connection: Connection) -> None:
        """Sends the answer to the peer's close frame, which repeats its code (section 5.5.1)."""
        assert connection.end is not None
        code = connection.end[0]
        self._say(connection, frame(CLOSE, close_payload(None if code == CloseCode.NO_STATUS else code)), None)
        self.drain(connection)

    def fail(self, connection: Connection, payload: bytes) -> None:
        """The peer broke the protocol: tells it why and hears it no more (section 7.1.7)."""
        if connection.state in (ConnectionState.PROXIED, ConnectionState.SECURING):
            self.drop(connection)
            return
        if connection.state is ConnectionState.OPEN:
            connection.end = split_close(payload)
            self._say(connection, frame(CLOSE, payload), None)
        self.drain(connection)

    def refuse(self, connection: Connection, refusal: HttpRefusal) -> None:
        """Answers a request that does not become a WebSocket."""
        self._say(connection, refusal.to_bytes(), None)
        self.drain(connection)

    def drain(self, connection: Connection) -> None:
        """All is said: sends what is left, then the end of the stream."""
        if connection.state in (ConnectionState.DRAINING, ConnectionState.CLOSED):
            return
        with connection.lock:
            connection.become(ConnectionState.DRAINING)
        connection.backlog = connection.upgrade = connection.stream = None
        if connection.outbox is None:
            self.end_of_output(connection)
        else:  # however long it takes, as long as the client takes something: the write stall watches over that
            connection.deadline = math.inf
            self._hub.arm(connection)

    def end_of_output(self, connection: Connection) -> None:
        """Tells the peer that nothing follows, and gives it a moment to close."""
        try:
            with connection.lock:
                if connection.secure:
                    _say_goodbye(connection)
                connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.drop(connection)
        else:
            self._wait(connection, self._hub.limits.connections.linger_timeout)

    def drop(self, connection: Connection, code: int = CloseCode.ABNORMAL, reason: str = "") -> None:
        """Closes the socket now: unregister, shutdown, close, in this order and nowhere else."""
        if connection.state is ConnectionState.CLOSED:
            return
        self._hub.remove(connection)
        with connection.lock:
            connection.become(ConnectionState.CLOSED)
            connection.outbox = None
            stepping = connection.stepping
        connection.backlog = connection.upgrade = connection.stream = None
        try:
            # The plain socket's shutdown: that of a TLS socket would take OpenSSL's object from a worker that uses it.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster
        if not stepping:
            connection.sock.close()
        if connection.session is not None:
            self._hub.service.closed(connection.session, *(connection.end or (code, reason)))

    def _say(self, connection: Connection, data: bytes, then: ConnectionState | None) -> bool:
        """Sends last words and changes the state under one lock, so that nothing can follow them.

        Returns:
            Whether the connection is still there.
        """
        with connection.lock:
            sent = connection.write(data, self._hub.clock)
            if then is not None:
                connection.become(then)
        if not self._hub.after_send(connection, sent):
            self.drop(connection)
            return False
        return True

    def _wait(self, connection: Connection, seconds: float) -> None:
        connection.deadline = self._hub.now + seconds
        self._hub.schedule(connection, connection.deadline)
        self._hub.arm(connection)

    # Deadlines

    def on_timer(self, connection: Connection, at: float) -> None:
        """Looks whether anything of the connection is overdue, and arranges for the next look."""
        if at != connection.timer_at or connection.state is ConnectionState.CLOSED:
            return  # an earlier look has taken its place
        connection.timer_at = 0.0
        now, limits = self._hub.now, self._hub.limits
        outbox = connection.outbox
        if outbox is not None and now >= outbox.progress_at + limits.connections.write_stall:
            connection.end = connection.end or (CloseCode.FELL_BEHIND, limit_reached(limits, "write_stall"))
            self.drop(connection)
            return
        if connection.state is ConnectionState.OPEN:
            self._keep_alive(connection)
        elif now >= connection.deadline:
            self._overdue(connection)
        elif connection.deadline < math.inf:
            self._hub.schedule(connection, connection.deadline)
        outbox = connection.outbox  # None where the connection was dropped
        if outbox is not None:
            self._hub.schedule(connection, outbox.progress_at + limits.connections.write_stall)

    def _keep_alive(self, connection: Connection) -> None:
        """Sends a ping after a silence, and gives up on a peer that stays silent after it."""
        hub, limits = self._hub, self._hub.limits
        if hub.now >= connection.deadline:
            connection.deadline = math.inf
            verdict = hub.service.overdue(connection.session)
            if verdict is not None:
                self.begin(connection, *verdict)
                return
        elif connection.deadline < math.inf:
            hub.schedule(connection, connection.deadline)
        if connection.ping_at and connection.heard_at >= connection.ping_at:
            connection.ping_at = 0.0
        if hub.must_wait(connection):  # we do not listen, so its silence says nothing
            connection.heard_at = hub.now
            connection.ping_at = 0.0
        if connection.ping_at:
            if hub.now >= connection.ping_at + limits.connections.pong_timeout:
                connection.end = (CloseCode.INTERNAL_ERROR, limit_reached(limits, "pong_timeout"))
                self._say(connection, frame(CLOSE, close_payload(*connection.end)), None)
                self.drop(connection)
                return
            hub.schedule(connection, connection.ping_at + limits.connections.pong_timeout)
        elif hub.now >= connection.heard_at + limits.connections.ping_interval:
            connection.ping_at = hub.now
            # Its pong will be there at the first look: so that pings keep their interval, be the timeout longer.
            hub.schedule(connection, hub.now + min(limits.connections.ping_interval, limits.connections.pong_timeout))
            if not hub.after_send(connection, connection.send(frame(PING, b""), hub.clock)):
                self.drop(connection)
        else:
            hub.schedule(connection, connection.heard_at + limits.connections.ping_interval)

    def _overdue(self, connection: Connection) -> None:
        state = connection.state
        if state in (ConnectionState.PROXIED, ConnectionState.SECURING):
            self.drop(connection)
        elif state is ConnectionState.HANDSHAKE:
            self.refuse(connection, HttpRefusal(408, limit_reached(self._hub.limits, "handshake_timeout")))
        elif state is ConnectionState.FINISHING:
            self.finish(connection)
        else:
            self.drop(connection)

    # The end of the server

    def stop(self) -> None:
        """Asks all connections to end: the idle at once, those with calls when these are answered."""
        self._hub.stopping = True
        for connection in self._hub.all():
            if (
                connection.state in (ConnectionState.PROXIED, ConnectionState.SECURING, ConnectionState.HANDSHAKE)
                or not connection.in_flight
            ):
                self.begin(connection, CloseCode.GOING_AWAY, "the server is stopping")
            else:
                self._hub.arm(connection)

    def drop_all(self) -> None:
        """Closes what is left, without another word."""
        for connection in self._hub.all():
            self.drop(connection, CloseCode.GOING_AWAY, "the server has stopped")


def _say_goodbye(connection: Connection) -> None:
    """Sends TLS's own end of the stream (RFC 8446 section 6.1); requires holding the lock."""
    assert isinstance(connection.sock, ssl.SSLSocket)
    try:
        connection.sock.unwrap()
    except (OSError, ValueError):
        pass  # the peer's own is not waited for, and a broken connection needs none
