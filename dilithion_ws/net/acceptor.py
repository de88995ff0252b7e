"""The thread that accepts connections: it admits or refuses them, and hands admitted sockets to the leader.

It parses nothing, so a client cannot hold it up. A refused client gets a 503 or 429 with the reason. Its socket is kept
open for a second afterwards: closing a socket with unread input resets the connection, and the client might never see
the response.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import threading
from collections import deque
from typing import NamedTuple

from ..protocol.http import HttpRefusal
from ..util.clock import Clock, Deadline
from ..util.http_date import http_date
from ..util.log_budget import LogBudget
from ..util.thread_contracts import owner_only
from .connection_limiter import ConnectionLimiter
from .interfaces import Address
from .listeners import Listeners
from .mailbox import Mailbox
from .poller import Waker

__all__ = ["Acceptor"]

logger = logging.getLogger("dilithion_ws.net")

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BACK_OFF_SECONDS = 0.1
_JOIN_SECONDS = 1.0
_LOG_BURST, _LOG_LINES_PER_SECOND = 100, 1.0
"""Lines about refused connections; further ones are counted."""
_MAX_REFUSED = 64
_REFUSED_SECONDS = 1.0


class _RefusedSocket(NamedTuple):
    """A socket on which a refusal was sent."""

    refused_at: float
    sock: socket.socket


class Acceptor:
    """Accepts connections until it is stopped.

    Args:
        listeners: where it accepts connections; the acceptor closes them.
        limiter: decides which connections are admitted.
        mailbox: gets the admitted sockets.
        clock: seconds that never go backwards.
    """

    def __init__(self, listeners: Listeners, limiter: ConnectionLimiter, mailbox: Mailbox, clock: Clock) -> None:
        self._listeners = listeners
        self._limiter = limiter
        self._mailbox = mailbox
        self._clock = clock
        self._waker = Waker()
        self._stopping = False
        self._spare_file = os.open(os.devnull, os.O_RDONLY)
        self._pause = selectors.DefaultSelector()  # made here, since it needs a descriptor, too
        self._pause.register(self._waker.fd, selectors.EVENT_READ)
        self._refused: deque[_RefusedSocket] = deque()
        self._log_budget = LogBudget(clock, _LOG_BURST, _LOG_LINES_PER_SECOND)
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-acceptor", daemon=True)

    @owner_only
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @owner_only
    def stop(self, deadline: Deadline) -> None:
        """Stop accepting, and close all descriptors."""
        self._stopping = True
        self._waker.wake()
        if self._thread.ident is not None:
            self._thread.join(max(_JOIN_SECONDS, deadline.remaining()))
        self._listeners.close()
        for refused in self._refused:
            refused.sock.close()
        self._close_spare_file()
        self._pause.close()
        self._waker.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners.sockets:
                selector.register(listener, selectors.EVENT_READ, listener)
            selector.register(self._waker.fd, selectors.EVENT_READ)
            while not self._stopping:
                ready = selector.select(_REFUSED_SECONDS if self._refused else None)
                try:
                    for key, _ in ready:
                        if key.data is not None:
                            self._accept(key.data)
                except Exception:
                    logger.exception("accepting failed; going on")
                    self._back_off()
                self._close_refused()

    def _accept(self, listener: socket.socket) -> None:
        """Accept one connection. The selector reports the listener again if there are more.

        Accepting until none is left would cost one more system call for nearly every connection, and each call here gives
        the interpreter's lock to the leader and waits to get it back. For the same reason the leader sets the options of
        the socket. Together this is 8 % of the processor time of a connection.
        """
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            self._on_out_of_files(listener)
            return
        refusal = self._limiter.acquire(address[0])
        if refusal is None:
            self._hand_over(sock, (address[0], address[1]))
        else:
            self._refuse(sock, address, refusal)

    def _hand_over(self, sock: socket.socket, address: Address) -> None:
        self._mailbox.post(lambda leader: leader.on_accepted(sock, address))

    def _refuse(self, sock: socket.socket, address: Address, refusal: HttpRefusal) -> None:
        suppressed = self._log_budget.take()
        if suppressed is not None:
            more = f" ({suppressed} refusals before it were not logged)" if suppressed else ""
            logger.warning("refused %s:%d: %s%s", address[0], address[1], refusal.message, more)
        try:
            sock.setblocking(False)
            sock.send(refusal.to_bytes(http_date()))
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._refused.append(_RefusedSocket(self._clock(), sock))
        if len(self._refused) > _MAX_REFUSED:
            self._refused.popleft().sock.close()

    def _close_refused(self) -> None:
        while self._refused and self._clock() - self._refused[0].refused_at >= _REFUSED_SECONDS:
            self._refused.popleft().sock.close()

    def _on_out_of_files(self, listener: socket.socket) -> None:
        """Refuse a client although no descriptor is left: the spare one is closed for it. Then pause accepting.

        Without that, `accept` would fail over and over again while the client waits.
        """
        logger.error("out of file descriptors: refusing connections; raise the limit of open files")
        self._close_spare_file()
        try:
            sock, address = listener.accept()
            self._refuse(sock, address, HttpRefusal(503, "the server is out of file descriptors"))
            while self._refused:
                self._refused.popleft().sock.close()
        except OSError:
            pass  # another thread took the descriptor, so this client waits
        try:
            self._spare_file = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            pass  # it is opened the next time
        self._back_off()

    def _close_spare_file(self) -> None:
        if self._spare_file >= 0:
            os.close(self._spare_file)
            self._spare_file = -1  # the number may belong to another file from now on

    def _back_off(self) -> None:
        self._pause.select(_BACK_OFF_SECONDS)
