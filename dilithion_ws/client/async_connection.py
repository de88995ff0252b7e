"""One connection of the asyncio client: a transport and `ClientProtocol`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from .client_protocol import ClientProtocol
from .connection_options import ConnectionOptions
from .exceptions import ClientError, ConnectionLostError
from .upgrade_errors import connect_error

__all__ = ["AsyncConnection", "open_connection"]

_MOST_UNREAD = 16 << 20
"""Bytes that wait to be sent when a pong is added to them."""


class AsyncConnection(asyncio.Protocol):
    """A connection as asyncio's transports drive it.

    Args:
        options: how to connect.

    Attributes:
        protocol: the state of the connection.
        opened: done when the server has accepted the upgrade, or with the reason why not.
        closed: done when the connection has ended.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        loop = asyncio.get_running_loop()
        self._idle = options.idle
        self.protocol = ClientProtocol(options)
        self._transport: asyncio.Transport | None = None
        self._early: list[str | bytes] = []  # messages that came before `receive`
        self._on_messages: Callable[[Sequence[str | bytes]], None] = self._early.extend
        self._failure: BaseException | None = None
        self._drained: asyncio.Future[None] | None = None  # None while the server takes what is sent
        self._received_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    @property
    def is_writable(self) -> bool:
        """Whether the server takes what is sent."""
        return self._drained is None

    def drained(self) -> asyncio.Future[None]:
        """Return a future that is done when the server has taken most of what was sent, or the connection has ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._drained is None:
            future.set_result(None)
        else:
            self._drained.add_done_callback(lambda _: None if future.done() else future.set_result(None))
        return future

    async def receive(self, on_messages: Callable[[Sequence[str | bytes]], None]) -> None:
        """Pass on messages, as many as come together, also those that have come already, until the connection ends.

        Raises what `on_messages` has raised. The connection ends with that, too.
        """
        self._on_messages = on_messages
        self._pass_on(self._early)
        await asyncio.wait([self.closed])  # which is not cancelled with the task that waits
        if self._failure is not None:
            raise self._failure

    def _pass_on(self, messages: Sequence[str | bytes]) -> None:
        try:
            self._on_messages(messages)
        except Exception as error:
            self._failure = error
            self.abort()

    def post(self, text: str) -> None:
        """Send one text message, as soon as the server takes it. If the connection is closed, do nothing."""
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.write(self.protocol.encode(text))
        except ConnectionLostError:
            pass  # the end is on its way

    def close(self) -> None:
        """Send a close frame if that is possible at once, and close the transport."""
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(self.protocol.close())
            self._transport.close()

    def abort(self) -> None:
        """Close the transport without a close frame."""
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self.protocol.upgrade_request())
        self._check_idle()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received_at = asyncio.get_running_loop().time()
        try:
            received = self.protocol.receive_data(data)
        except ClientError as error:
            self._fail(error)
            return
        if received.reply:
            self._transport.write(received.reply)
            if self._transport.get_write_buffer_size() > _MOST_UNREAD:
                self.abort()  # it sends pings and does not read the pongs
        if self.protocol.is_open and not self.opened.done():
            self.opened.set_result(None)
        if received.messages:
            self._pass_on(received.messages)
        if self.protocol.is_closed:
            self._transport.close()

    def eof_received(self) -> None:
        self.data_received(b"")

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fail(ConnectionLostError("the server closed the connection during the upgrade"))
        self.resume_writing()
        if not self.closed.done():
            self.closed.set_result(None)

    def _fail(self, error: ClientError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # it counts as seen, also if the attempt was cancelled
        self.abort()

    def _check_idle(self) -> None:
        """Give the connection up after too long a silence."""
        loop = asyncio.get_running_loop()
        silence = loop.time() - self._received_at
        if silence >= self._idle:
            self.abort()
        else:
            self._timer = loop.call_later(self._idle - silence, self._check_idle)


async def open_connection(options: ConnectionOptions) -> AsyncConnection:
    """Connect and upgrade.

    Raises:
        RefusedError: the server's answer is a refusal that will be the same the next time.
        CertificateError: the server's certificate cannot be verified.
        ConnectionLostError: there is no connection for another reason.
    """
    host, port = options.address
    context = options.tls
    connection = AsyncConnection(options)

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        sock = await _connect(host, port)
        try:
            name = None if context is None else host
            await loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        await connection.opened

    try:
        await asyncio.wait_for(connect(), options.timeout)
    except asyncio.TimeoutError:
        connection.abort()
        raise ConnectionLostError(f"no answer of {host}:{port} to the upgrade in time") from None
    except OSError as error:
        raise connect_error(host, port, error) from None
    except BaseException:
        connection.abort()
        raise
    return connection


async def _connect(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to one of a host's addresses. Raise OSError for the last one.

    `create_connection` would put the errors of all addresses into one text.
    """
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure
