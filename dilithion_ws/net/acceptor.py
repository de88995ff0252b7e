"""The thread that accepts: it admits or refuses, and hands admitted sockets to the leader. It parses nothing.

A refused client gets an HTTP 503 with the reason. Its socket is kept for a second behind that, since closing a socket
with unread input resets the connection, and the client might never see the answer.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable

from ..config.config import Config
from ..errors import StartError
from ..protocol.http_connection import HttpRefusal
from ..util.clock import Clock, Deadline
from .connection_limiter import ConnectionLimiter
from .poller import Waker

__all__ = ["Acceptor", "listen"]

logger = logging.getLogger("dilithion_ws.net")

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BACK_OFF = 0.1
_JOIN_SECONDS = 1.0
_REFUSED_KEPT = 64
_REFUSED_SECONDS = 1.0


def listen(config: Config) -> socket.socket:
    """A listening socket as configured.

    Raises:
        StartError: the address can't be resolved or is in use, or the port is not ours to take.
    """
    where = f"{config.host}:{config.port}"
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise StartError(f"can't listen on {where}: {error}") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(config.backlog)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = " (another program listens there)" if error.errno == errno.EADDRINUSE else ""
        raise StartError(f"can't listen on {where}: {error.strerror or error}{hint}") from error
    return listener


class Acceptor:
    """Accepts connections until it is stopped.

    Args:
        listener: a listening, non-blocking socket; the acceptor closes it.
        admission: decides who comes in.
        welcome: gets each admitted socket and its address.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        listener: socket.socket,
        admission: ConnectionLimiter,
        welcome: Callable[[socket.socket, tuple[str, int]], None],
        clock: Clock,
    ) -> None:
        self._listener = listener
        self._admission = admission
        self._welcome = welcome
        self._clock = clock
        self._waker = Waker()
        self._stopping = False
        self._spare_file = os.open(os.devnull, os.O_RDONLY)
        self._refused: deque[tuple[float, socket.socket]] = deque()
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-acceptor", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, deadline: Deadline) -> None:
        """Stops accepting and gives all descriptors back."""
        self._stopping = True
        self._waker.wake()
        if self._thread.ident is not None:
            self._thread.join(max(_JOIN_SECONDS, deadline.remaining()))
        self._listener.close()
        for _, sock in self._refused:
            sock.close()
        self._give_up_spare_file()
        self._waker.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waker.fd, selectors.EVENT_READ)
            while not self._stopping:
                selector.select(_REFUSED_SECONDS if self._refused else None)
                try:
                    self._accept_all()
                except Exception:
                    logger.exception("accepting failed; going on")
                    self._pause()
                self._let_go()

    def _accept_all(self) -> None:
        while not self._stopping:
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_FILES:
                    raise
                self._out_of_files()
                return
            sock.setblocking(False)
            refusal = self._admission.enter(address[0])
            if refusal is not None:
                self._refuse(sock, address, refusal)
                continue
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # the client has gone already; reading will tell
            self._welcome(sock, (address[0], address[1]))

    def _refuse(self, sock: socket.socket, address: tuple[str, int], refusal: HttpRefusal) -> None:
        logger.warning("refused %s:%d: %s", address[0], address[1], refusal.message)
        try:
            sock.send(refusal.to_bytes())
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._refused.append((self._clock(), sock))
        if len(self._refused) > _REFUSED_KEPT:
            self._refused.popleft()[1].close()

    def _let_go(self) -> None:
        while self._refused and self._clock() - self._refused[0][0] >= _REFUSED_SECONDS:
            self._refused.popleft()[1].close()

    def _out_of_files(self) -> None:
        """No descriptor is left: the spare one is given up to tell the client, and accepting pauses."""
        logger.error("out of file descriptors: refusing connections; raise the limit of open files")
        self._give_up_spare_file()
        try:
            sock, address = self._listener.accept()
            sock.setblocking(False)
            self._refuse(sock, address, HttpRefusal(503, "the server is out of file descriptors"))
            while self._refused:
                self._refused.popleft()[1].close()
        except OSError:
            pass  # somebody else took the descriptor: then this client waits
        try:
            self._spare_file = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            pass  # the next time round
        self._pause()

    def _give_up_spare_file(self) -> None:
        if self._spare_file >= 0:
            os.close(self._spare_file)
            self._spare_file = -1  # the number may be anybody's from now on

    def _pause(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker.fd, selectors.EVENT_READ)
            selector.select(_BACK_OFF)
