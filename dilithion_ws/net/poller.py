"""Wait for sockets: epoll if the system has it, `selectors` otherwise. A waker ends a wait from outside.

Readiness is level-triggered. Interest is a mask of READ and WRITE. A descriptor without interest is not registered at
all, since the system reports a hang-up even to those who asked for nothing, over and over again.
"""

from __future__ import annotations

import select
import selectors
import socket

__all__ = ["ENDED", "READ", "WRITE", "Poller", "SelectorPoller", "Waker", "make_poller"]

READ, WRITE = 0x001, 0x004
ENDED = 0x008 | 0x010
"""Error or hang-up: the socket cannot be used any more (epoll's EPOLLERR and EPOLLHUP)."""


class Poller:
    """epoll, with one call to change the interest."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def set_interest(self, fd: int, before: int, interest: int) -> None:
        """Change what a descriptor is polled for: READ, WRITE, both, or nothing (0). `before` is its present interest."""
        if not before:
            self._epoll.register(fd, interest)
        elif not interest:
            self._epoll.unregister(fd)
        else:
            self._epoll.modify(fd, interest)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Return ready descriptors, each with its mask, or an empty list after `timeout` seconds (None: never)."""
        return self._epoll.poll(timeout)

    def close(self) -> None:
        """Close the descriptor."""
        self._epoll.close()


class SelectorPoller:
    """The same on the standard library's best selector, for systems without epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def set_interest(self, fd: int, before: int, interest: int) -> None:
        """See `Poller.set_interest`."""
        events = (selectors.EVENT_READ if interest & READ else 0) | (selectors.EVENT_WRITE if interest & WRITE else 0)
        if not before:
            self._selector.register(fd, events)
        elif not interest:
            self._selector.unregister(fd)
        else:
            self._selector.modify(fd, events)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """See `Poller.poll`."""
        return [
            (key.fd, (READ if events & selectors.EVENT_READ else 0) | (WRITE if events & selectors.EVENT_WRITE else 0))
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        """Close the descriptors."""
        self._selector.close()


def make_poller() -> Poller | SelectorPoller:
    """Return the best poller of this system."""
    return Poller() if hasattr(select, "epoll") else SelectorPoller()


class Waker:
    """Ends a wait, from any thread or signal handler, by a byte through a non-blocking socket pair."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self.fd = self._receiver.fileno()

    def wake(self) -> None:
        """Make `fd` readable. Do nothing if it is already, or if the waker is closed."""
        try:
            self._sender.send(b"\0")
        except (BlockingIOError, InterruptedError):
            pass  # full of bytes that were not read yet: one is enough
        except OSError:
            pass  # closed

    def drain(self) -> None:
        """Read all bytes."""
        try:
            while len(self._receiver.recv(4096)) == 4096:
                pass
        except (BlockingIOError, InterruptedError):
            pass

    def close(self) -> None:
        """Close both descriptors. Call it last."""
        self._sender.close()
        self._receiver.close()
