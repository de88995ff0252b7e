"""Waiting for sockets: epoll where the system has it, `selectors` elsewhere, and a waker to end the wait from outside.

Readiness is level-triggered. Interest is a mask of READ and WRITE; a descriptor without interest is not registered at
all, because the system reports a hang-up even to those who asked for nothing, again and again.
"""

from __future__ import annotations

import select
import selectors
import socket

__all__ = ["ENDED", "READ", "WRITE", "Poller", "SelectorPoller", "Waker", "make_poller"]

READ, WRITE = 0x001, 0x004
ENDED = 0x008 | 0x010
"""Error or hang-up: the socket will never be of use again (epoll's EPOLLERR and EPOLLHUP)."""


class Poller:
    """epoll, with interest set by one call."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def set_interest(self, fd: int, before: int, interest: int) -> None:
        """Waits for READ, WRITE, both or, with 0, for nothing any more; `before` is what was waited for so far."""
        if not before:
            self._epoll.register(fd, interest)
        elif not interest:
            self._epoll.unregister(fd)
        else:
            self._epoll.modify(fd, interest)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        """Descriptors that are ready and for what; an empty list after `timeout` seconds (None: no end)."""
        return self._epoll.poll(timeout)

    def close(self) -> None:
        """Gives the descriptor back."""
        self._epoll.close()


class SelectorPoller:
    """The same for systems without epoll, on the standard library's best selector."""

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
        """Gives the descriptors back."""
        self._selector.close()


def make_poller() -> Poller | SelectorPoller:
    """The best poller of this system."""
    return Poller() if hasattr(select, "epoll") else SelectorPoller()


class Waker:
    """Ends a wait from any thread and from a signal handler: a byte through a socket pair, never blocking."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self.fd = self._receiver.fileno()

    def wake(self) -> None:
        """Makes the receiving side ready; harmless when it is ready already, or closed."""
        try:
            self._sender.send(b"\0")
        except (BlockingIOError, InterruptedError):
            pass  # full of wake-ups that nobody has read yet: one is enough
        except OSError:
            pass  # closed: there is nobody to wake

    def drain(self) -> None:
        """Forgets all wake-ups so far."""
        try:
            while len(self._receiver.recv(4096)) == 4096:
                pass
        except (BlockingIOError, InterruptedError):
            pass

    def close(self) -> None:
        """Gives the descriptors back; to be called last."""
        self._sender.close()
        self._receiver.close()
