from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dilithion_ws import Config, Limits
from dilithion_ws.net.acceptor import Acceptor
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.net.interfaces import Address
from dilithion_ws.net.listeners import Listeners, listen
from dilithion_ws.net.mailbox import Command, Mailbox
from dilithion_ws.util.clock import Deadline, monotonic

from ..support import RawClient, wait_for
from ..support.net import AllowAll


class Accepted(Mailbox):
    """Executes commands where they are posted, and collects the accepted sockets."""

    def __init__(self, sockets: list[Any]) -> None:
        super().__init__()
        self.close()
        self._sockets = sockets

    def post(self, command: Command) -> None:
        command(self)

    def on_accepted(self, sock: socket.socket, address: Address) -> None:
        self._sockets.append((sock, address))


class Listener:
    """A listener whose accept() fails with the given errors first."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self.errors = list(errors)

    def accept(self) -> Any:
        if self.errors:
            raise OSError(self.errors.pop(0), "told to fail")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


Accept = Callable[..., "tuple[int, list[Any]]"]


@pytest.fixture
def accept() -> Iterator[Accept]:
    started: list[tuple[Acceptor, list[Any]]] = []

    def accept(limits: Limits, *errors: int) -> tuple[int, list[Any]]:
        (real,) = listen(Config("127.0.0.1")).sockets
        accepted: list[Any] = []
        listener: Any = Listener(real, *errors)
        acceptor = Acceptor(
            Listeners([listener]), ConnectionLimiter(limits, 1000, AllowAll()), Accepted(accepted), monotonic
        )
        started.append((acceptor, accepted))
        acceptor.start()
        return real.getsockname()[1], accepted

    yield accept
    for acceptor, accepted in started:
        acceptor.stop(Deadline(monotonic, 5.0))
        for sock, _ in accepted:
            sock.close()


def test_admitted_sockets_are_handed_on(accept: Accept) -> None:
    port, accepted = accept(Limits())
    with RawClient(port, upgrade=False) as client:
        wait_for(lambda: accepted)
        sock, address = accepted[0]
        assert address == client.sock.getsockname()
        assert sock.getpeername() == address


def test_a_refused_client_gets_the_reason(accept: Accept) -> None:
    port, accepted = accept(Limits.from_names(connections=1))
    with RawClient(port, upgrade=False), RawClient(port, upgrade=False) as second:
        status, headers, body = second.response()
        assert status == 503
        assert headers["retry-after"]
        assert b"connections limit of 1 connections (rpcwebsocketconnections)" in body
        wait_for(lambda: len(accepted) == 1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EPERM])
def test_accepting_goes_on_after_every_error(accept: Accept, number: int) -> None:
    port, accepted = accept(Limits(), number, number)
    clients = [RawClient(port, upgrade=False) for _ in range(4)]
    wait_for(lambda: len(accepted) + sum(_refused(client) for client in clients) == 4)
    for client in clients:
        client.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EPERM])
def test_a_pause_of_accepting_needs_no_descriptor(accept: Accept, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    port, accepted = accept(Limits(), number)
    monkeypatch.setattr(selectors, "DefaultSelector", lambda: (_ for _ in ()).throw(OSError(errno.EMFILE, "none left")))
    for _ in range(2):
        with RawClient(port, upgrade=False) as client:
            wait_for(lambda client=client: accepted or _refused(client))  # type: ignore[misc]
    wait_for(lambda: accepted)


def _refused(client: RawClient) -> bool:
    client.sock.setblocking(False)
    try:
        client.buffer += client.sock.recv(4096)
    except BlockingIOError:
        pass
    return b"503" in client.buffer


def test_the_spare_descriptor_is_given_back_once(accept: Accept, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be opened again, its number belongs to another file, and must not be closed a second time."""
    port, _ = accept(Limits(), errno.EMFILE, errno.EMFILE)
    closed: list[int] = []
    original = os.close
    monkeypatch.setattr("dilithion_ws.net.acceptor.os.close", lambda fd: (closed.append(fd), original(fd)))
    monkeypatch.setattr("dilithion_ws.net.acceptor.os.open", lambda *args: (_ for _ in ()).throw(OSError("none left")))
    with RawClient(port, upgrade=False), RawClient(port, upgrade=False):
        wait_for(lambda: closed)
    assert len(closed) == len(set(closed)) == 1


def test_many_refused_at_once_are_kept_within_bounds(accept: Accept) -> None:
    port, _ = accept(Limits.from_names(connections=1))
    clients = [RawClient(port, upgrade=False) for _ in range(100)]
    assert [client.response()[0] for client in clients[1:]] == [503] * 99
    for client in clients:
        client.close()


def test_lines_about_refused_connections_are_limited(accept: Accept, caplog: pytest.LogCaptureFixture) -> None:
    port, accepted = accept(Limits.from_names(connections=1))
    with RawClient(port, upgrade=False):
        wait_for(lambda: accepted)
        for _ in range(120):
            with RawClient(port, upgrade=False) as client:
                assert client.response()[0] == 503
    assert 100 <= caplog.text.count("refused 127.0.0.1:") < 120
