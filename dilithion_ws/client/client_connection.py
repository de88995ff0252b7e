"""One WebSocket connection of a client: a socket and wsproto, without any knowledge of the messages.

The socket never blocks: with TLS, reading and writing share OpenSSL's object, which is not made for two threads, so that
each use of it holds a lock, and waiting is done outside of it.
"""

from __future__ import annotations

import base64
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from ..errors import CloseCode
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only
from .exceptions import CallTimeoutError, CertificateError, ClientError, ConnectionLostError, RefusedError

__all__ = ["ConnectionOptions", "ClientConnection", "check_url"]

_READ_SIZE = 65536
_CONTROL_SECONDS = 5.0
_CANCEL_CHECK_SECONDS = 0.2
_WANTS_READ = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
_WANTS_WRITE = (BlockingIOError, InterruptedError, ssl.SSLWantWriteError)
_SUBPROTOCOL = "dilithion.v1"
_MOST_REASON = 500
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # Windows has no poll
_FINAL = (401, 403, 404, 400, 426)


def check_url(url: str) -> None:
    """Raise ValueError if this is not the address of a server."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        good = good and url.isprintable() and " " not in url
        (parts.hostname or "").encode("idna")
    except ValueError:
        good = False
    if not good or "@" in url:
        shown = url.rpartition("@")[2][:100]  # what is before an @ may be a password
        raise ValueError(f"{shown!r} is not the address of a server, such as ws://host:port or wss://host:port")


class ConnectionOptions(NamedTuple):
    """How to connect.

    Attributes:
        url: `ws://host:port` or `wss://host:port`.
        credentials: user and password, None for none.
        context: for wss; None takes the system's authorities.
        timeout: seconds for all of connecting.
        idle: seconds without a byte from the server after which the connection counts as lost; the server pings.
        max_message_size: bytes of one message.
    """

    url: str
    credentials: tuple[str, str] | None
    context: ssl.SSLContext | None
    timeout: float
    idle: float
    max_message_size: int

    def __repr__(self) -> str:
        return f"<Settings of {self.url}>"


class ClientConnection:
    """An open connection.

    Args:
        settings: how to connect.
        cancelled: whether to give up; asked now and then.

    Raises:
        RefusedError: the server's answer is a refusal that will be the same the next time.
        ConnectionLostError: there is no connection for another reason.
    """

    def __init__(self, settings: ConnectionOptions, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._idle = settings.idle
        self._max_message_size = settings.max_message_size
        self._send_lock = threading.Lock()  # held for the length of a message: messages are sent one after the other
        self._socket_lock = threading.Lock()  # guards the socket's object, for one call that does not block
        self._protocol_lock = threading.Lock()  # guards wsproto's object
        self._control: deque[bytes] = deque()
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._partial: list[str] | list[bytes] = []
        self._size = 0
        self.close_code = int(CloseCode.ABNORMAL)
        self.close_reason = ""
        deadline = Deadline(monotonic, settings.timeout)
        parts = urlsplit(settings.url)
        secure = parts.scheme == "wss"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        try:
            self._sock: socket.socket = socket.create_connection((host, port), settings.timeout)
            try:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if secure:
                    context = settings.context or ssl.create_default_context()
                    self._sock = context.wrap_socket(self._sock, server_hostname=host)
                self._sock.setblocking(False)
                self._do_handshake(
                    parts.netloc.rpartition("@")[2], parts.path or "/", settings.credentials, deadline, cancelled
                )
            except BaseException:
                self._sock.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise CertificateError(
                f"the certificate of {host}:{port} can't be verified: {error.verify_message}; "
                "for one of your own, pass an ssl_context that trusts it (--ca FILE)"
            ) from None
        except ssl.SSLError as error:
            reason = error.reason or str(error)
            raise ConnectionLostError(
                f"{host}:{port} does not speak TLS, or not as we do: {reason} (ws:// is plain)"
            ) from None
        except OSError as error:
            raise ConnectionLostError(f"can't connect to {host}:{port}: {error.strerror or error}") from None

    def _do_handshake(
        self,
        host: str,
        target: str,
        credentials: tuple[str, str] | None,
        deadline: Deadline,
        cancelled: Callable[[], bool],
    ) -> None:
        headers = []
        if credentials is not None:
            encoded = base64.b64encode(":".join(credentials).encode())
            headers.append((b"Authorization", b"Basic " + encoded))
        request = Request(host=host, target=target, subprotocols=[_SUBPROTOCOL], extra_headers=headers)
        self._write(self._ws.send(request), deadline)
        refusal: RejectConnection | None = None
        text = b""
        while True:
            data = self._read(min(_CANCEL_CHECK_SECONDS, deadline.remaining()))
            if data is None and not deadline.expired and not cancelled():
                continue
            if data is None:
                raise ConnectionLostError("the server did not answer the upgrade in time")
            try:
                self._ws.receive_data(data or None)
            except ProtocolError as error:
                raise ConnectionLostError(f"the server does not speak WebSocket: {error}") from None
            for event in self._ws.events():
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    refusal = event
                    if event.has_body:
                        continue
                if isinstance(event, RejectData):
                    text += bytes(event.data)[:_MOST_REASON]
                    if not event.body_finished and len(text) < _MOST_REASON:
                        continue
                if refusal is not None:
                    raise _refused(refusal, text)
            if not data:
                if refusal is not None:
                    raise _refused(refusal, text)
                raise ConnectionLostError("the server closed the connection during the upgrade")

    @any_thread
    def send(self, text: str, timeout: float) -> None:
        """Send one text message.

        Raises:
            ConnectionLostError: the connection is lost.
            CallTimeoutError: the server did not take it in time; the connection is of no more use then.
        """
        deadline = Deadline(monotonic, timeout)
        with self._protocol_lock:
            try:
                data = self._ws.send(TextMessage(data=text))
            except ProtocolError:
                raise ConnectionLostError("the connection is closed") from None
        if not self._send_lock.acquire(timeout=deadline.remaining()):
            raise CallTimeoutError("the server does not read what is sent")
        try:
            self._write(data, deadline)
        finally:
            self._send_lock.release()
        self._send_control()

    @any_thread
    def post(self, text: str) -> None:
        """Send one text message without waiting for others, for the thread that reads."""
        self._queue(TextMessage(data=text))

    @owner_only
    def messages(self) -> Iterator[str | bytes]:
        """Yield the messages until the connection ends. Answer pings meanwhile. For one thread."""
        with self._protocol_lock:
            events = list(self._ws.events())  # what came together with the upgrade
        while True:
            for event in events:
                if isinstance(event, Message):
                    whole = self._assemble(event)
                    if whole is not None:
                        yield whole
                elif isinstance(event, Ping):
                    self._queue(event.response())
                elif isinstance(event, CloseConnection):
                    self.close_code, self.close_reason = int(event.code), event.reason or ""
                    self._queue(event.response())
                    return
            data = self._read(self._idle)
            if not data:
                return
            with self._protocol_lock:
                try:
                    self._ws.receive_data(data)
                    events = list(self._ws.events())
                except ProtocolError as error:
                    self.close_reason = str(error)
                    return

    @any_thread
    def shutdown(self) -> None:
        """Send a close frame if that is possible at once, and shut down the socket in both directions."""
        self._queue(CloseConnection(code=CloseCode.NORMAL))
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass  # the server was faster

    @owner_only
    def close(self) -> None:
        """Close the descriptor. Only the reading thread calls it, when it has ended."""
        with self._socket_lock:
            self._sock.close()

    def _assemble(self, event: Message[Any]) -> str | bytes | None:
        assert isinstance(event, (TextMessage, BytesMessage))
        self._size += len(event.data)
        if self._size > self._max_message_size:
            raise ConnectionLostError(f"a message is larger than {self._max_message_size} bytes (max_message_size)")
        self._partial.append(event.data)  # type: ignore[arg-type]
        if not event.message_finished:
            return None
        parts, self._partial, self._size = self._partial, [], 0
        if isinstance(event, TextMessage):
            return "".join(parts)  # type: ignore[arg-type]
        return b"".join(bytes(part) for part in parts)  # type: ignore[arg-type]

    def _queue(self, event: Pong | CloseConnection | TextMessage) -> None:
        """Send a frame now, or leave it to the thread that is sending a message."""
        with self._protocol_lock:
            try:
                self._control.append(self._ws.send(event))
            except ProtocolError:
                return  # it is closing already
        self._send_control()

    def _send_control(self) -> None:
        while self._control and self._send_lock.acquire(blocking=False):
            try:
                self._write(self._control.popleft(), Deadline(monotonic, _CONTROL_SECONDS))
            except (IndexError, ConnectionLostError, CallTimeoutError):
                return  # another thread was faster, or the reading thread will meet the error
            finally:
                self._send_lock.release()

    def _write(self, data: bytes, deadline: Deadline) -> None:
        view = memoryview(data)
        while view:
            try:
                with self._socket_lock:
                    view = view[self._sock.send(view) :]
            except _WANTS_WRITE:
                if not self._wait(deadline.remaining(), write=True):
                    self.abort()
                    raise CallTimeoutError("the server does not read what is sent") from None
            except OSError as error:
                raise ConnectionLostError(f"the connection is lost: {error.strerror or error}") from None

    @any_thread
    def abort(self) -> None:
        """Shut down the socket without a close frame, since half of another frame was sent."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already

    def _read(self, timeout: float) -> bytes | None:
        """Return received bytes, b"" at the end of the stream, or None if none came in time."""
        deadline = Deadline(monotonic, timeout)
        while True:
            try:
                with self._socket_lock:
                    return self._sock.recv(_READ_SIZE)
            except _WANTS_READ:
                if not self._wait(deadline.remaining(), write=False):
                    return None
            except (OSError, ValueError):
                return b""

    def _wait(self, timeout: float, *, write: bool) -> bool:
        try:
            with _Selector() as selector:
                selector.register(self._sock, selectors.EVENT_WRITE if write else selectors.EVENT_READ)
                return bool(selector.select(timeout))
        except (OSError, ValueError):
            return True  # it has been closed: the next use will tell


def _refused(refusal: RejectConnection, body: bytes) -> ClientError:
    """Return the error for an answer to the upgrade that is not an upgrade."""
    status = refusal.status_code
    text = body.decode("utf-8", "replace").strip().partition("\n")[0]
    retry = next((value for name, value in refusal.headers if bytes(name).lower() == b"retry-after"), None)
    if status in _FINAL:
        return RefusedError(status, text)
    wait = "" if retry is None else f"; it asks to wait {bytes(retry).decode('latin-1')} s"
    return ConnectionLostError(f"the server has no room now: HTTP {status} {text}".rstrip() + wait)
