"""One connection of the synchronous client: a socket and `ClientProtocol`.

The socket never blocks: with TLS, reading and writing share OpenSSL's object, which is not made for two threads, so that
each use of it holds a lock, and waiting is done outside of it.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator

from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread, owner_only
from .client_protocol import ClientProtocol
from .connection_options import ConnectionOptions
from .exceptions import CallTimeoutError, ConnectionLostError
from .upgrade_errors import connect_error

__all__ = ["ClientConnection"]

_READ_SIZE = 65536
_CONTROL_SECONDS = 5.0
_CANCEL_CHECK_SECONDS = 0.2
_WANTS_READ = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
_WANTS_WRITE = (BlockingIOError, InterruptedError, ssl.SSLWantWriteError)
_CLOSE = b""
"""Stands for a close frame in the queue."""
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # Windows has no poll


class ClientConnection:
    """An open connection.

    Args:
        options: how to connect.
        cancelled: whether to give up; asked now and then.

    Attributes:
        protocol: the state of the connection.

    Raises:
        RefusedError: the server's answer is a refusal that will be the same the next time.
        CertificateError: the server's certificate cannot be verified.
        ConnectionLostError: there is no connection for another reason.
    """

    def __init__(self, options: ConnectionOptions, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._idle = options.idle
        self._send_lock = threading.Lock()  # held for the length of a message: messages are sent one after the other
        self._socket_lock = threading.RLock()  # guards the socket's object, for one call that does not block
        self._protocol_lock = threading.Lock()  # guards the protocol's object
        self._queue: deque[str | bytes] = deque()  # texts and frames to send when both locks are free
        self.protocol = ClientProtocol(options)
        self._early: list[str | bytes] = []  # messages that came together with the upgrade
        deadline = Deadline(monotonic, options.timeout)
        try:
            self._sock: socket.socket = socket.create_connection(options.address, options.timeout)
            try:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if (context := options.tls) is not None:
                    self._sock = context.wrap_socket(self._sock, server_hostname=options.address[0])
                self._sock.setblocking(False)
                self._upgrade(deadline, cancelled)
            except BaseException:
                self._sock.close()
                raise
        except OSError as error:
            raise connect_error(*options.address, error) from None

    def _upgrade(self, deadline: Deadline, cancelled: Callable[[], bool]) -> None:
        self._write(self.protocol.upgrade_request(), deadline)
        while not self.protocol.is_open:
            data = self._read(min(_CANCEL_CHECK_SECONDS, deadline.remaining()))
            if data is not None:
                self._early += self._receive(data)
            elif deadline.expired or cancelled():
                raise ConnectionLostError("the server did not answer the upgrade in time")

    @any_thread
    def send(self, text: str, timeout: float) -> None:
        """Send one text message.

        Raises:
            ConnectionLostError: the connection is lost.
            CallTimeoutError: the server did not take it in time; the connection is of no more use then.
        """
        deadline = Deadline(monotonic, timeout)
        with self._protocol_lock:
            data = self.protocol.encode(text)
        if not self._send_lock.acquire(timeout=deadline.remaining()):
            raise CallTimeoutError("the server does not read what is sent")
        try:
            self._write(data, deadline)
        finally:
            self._send_lock.release()
        self._send_queue()

    @any_thread
    def post(self, text: str) -> None:
        """Send one text message without waiting for others. If the connection is closed, do nothing."""
        self._queue.append(text)
        self._send_queue()

    @owner_only
    def messages(self) -> Iterator[list[str | bytes]]:
        """Yield messages, as many as come together, until the connection ends. Answer pings meanwhile. For one thread."""
        yield self._early
        while not self.protocol.is_closed:
            data = self._read(self._idle)
            if data is None:
                return
            yield self._receive(data)

    def _receive(self, data: bytes) -> list[str | bytes]:
        with self._protocol_lock:
            received = self.protocol.receive_data(data)
            if received.reply:
                self._queue.append(received.reply)
        self._send_queue()
        return received.messages

    @any_thread
    def shutdown(self) -> None:
        """Send a close frame if that is possible at once, and shut down the socket in both directions."""
        self._queue.append(_CLOSE)
        self._send_queue()
        self._abort()

    @owner_only
    def close(self) -> None:
        """Close the descriptor. Only the reading thread calls it, when it has ended."""
        with self._socket_lock:
            self._sock.close()

    def _send_queue(self) -> None:
        """Send what is queued now, or leave it to the thread that has one of the locks: it comes here when it has not.

        It never waits for a lock, as a finalizer may have interrupted this thread while it has that lock itself.
        """
        while self._queue and self._send_lock.acquire(blocking=False):
            try:
                if not self._protocol_lock.acquire(blocking=False):
                    return
                try:
                    item = self._queue.popleft()
                    if item is _CLOSE:
                        data = self.protocol.close()
                    else:
                        data = self.protocol.encode(item) if isinstance(item, str) else item
                finally:
                    self._protocol_lock.release()
                self._write(data, Deadline(monotonic, _CONTROL_SECONDS))
            except IndexError:
                continue  # another thread was faster; more may have come after it looked
            except (ConnectionLostError, CallTimeoutError):
                return  # the reading thread will meet the error
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
                    self._abort()  # without a close frame, since half of another frame was sent
                    raise CallTimeoutError("the server does not read what is sent") from None
            except OSError as error:
                raise ConnectionLostError(f"the connection is lost: {error.strerror or error}") from None

    def _abort(self) -> None:
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
