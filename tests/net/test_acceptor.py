from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from dilithion_ws import Config, Limits, StartError
from dilithion_ws.net.acceptor import Acceptor, listen
from dilithion_ws.net.connection_limiter import ConnectionLimiter
from dilithion_ws.util.clock import Deadline, monotonic

from ..support import RawClient, wait_for


class Listener:
    """A listener whose accept() fails as often as it is told to."""

    def __init__(self, real: socket.socket, *errors: int) -> None:
        self._real = real
        self.errors = list(errors)

    def accept(self) -> Any:
        if self.errors:
            raise OSError(self.errors.pop(0), "told to fail")
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture
def accept() -> Iterator[Any]:
    acceptors: list[Acceptor] = []

    def accept(limits: Limits, *errors: int) -> tuple[int, list[Any]]:
        real = listen(Config())
        welcomed: list[Any] = []
        listener: Any = Listener(real, *errors)
        acceptor = Acceptor(
            listener,
            ConnectionLimiter(limits, 1000),
            lambda sock, address: welcomed.append((sock, address)),
            monotonic,
        )
        acceptors.append(acceptor)
        acceptor.start()
        return real.getsockname()[1], welcomed

    yield accept
    for acceptor in acceptors:
        acceptor.stop(Deadline(monotonic, 5.0))


def test_admitted_sockets_are_handed_on_without_blocking(accept: Any) -> None:
    port, welcomed = accept(Limits())
    with RawClient(port, upgrade=False) as client:
        wait_for(lambda: welcomed)
        sock, address = welcomed[0]
        assert address == client.sock.getsockname()
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


def test_the_refused_are_told_why(accept: Any) -> None:
    port, welcomed = accept(Limits.from_names(connections=1))
    with RawClient(port, upgrade=False), RawClient(port, upgrade=False) as second:
        status, headers, body = second.response()
        assert status == 503
        assert headers["retry-after"]
        assert b"connections limit of 1 connections (rpcwebsocketconnections)" in body
        wait_for(lambda: welcomed)
        welcomed[0][0].close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.EPERM])
def test_accepting_goes_on_after_every_error(accept: Any, number: int) -> None:
    port, welcomed = accept(Limits(), number, number)
    clients = [RawClient(port, upgrade=False) for _ in range(4)]
    wait_for(lambda: len(welcomed) + sum(_refused(client) for client in clients) == 4)
    for client in clients:
        client.close()
    for sock, _ in welcomed:
        sock.close()


def _refused(client: RawClient) -> bool:
    client.sock.setblocking(False)
    try:
        client.buffer += client.sock.recv(4096)
    except BlockingIOError:
        pass
    return b"503" in client.buffer


def test_the_spare_descriptor_is_given_back_once(accept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can't be had again, its number belongs to somebody else: nobody may close it a second time."""
    port, _ = accept(Limits(), errno.EMFILE, errno.EMFILE)
    closed: list[int] = []
    original = os.close
    monkeypatch.setattr("dilithion_ws.net.acceptor.os.close", lambda fd: (closed.append(fd), original(fd)))
    monkeypatch.setattr("dilithion_ws.net.acceptor.os.open", lambda *args: (_ for _ in ()).throw(OSError("none left")))
    with RawClient(port, upgrade=False), RawClient(port, upgrade=False):
        wait_for(lambda: closed)
    assert len(closed) == len(set(closed)) == 1


def test_many_refused_at_once_are_kept_within_bounds(accept: Any) -> None:
    port, welcomed = accept(Limits.from_names(connections=1))
    clients = [RawClient(port, upgrade=False) for _ in range(100)]
    assert [client.response()[0] for client in clients[1:]] == [503] * 99
    for client in clients:
        client.close()
    welcomed[0][0].close()


def test_a_port_in_use_is_one_clear_error() -> None:
    first = listen(Config())
    with first, pytest.raises(StartError, match=r"another program listens there"):
        listen(Config(port=first.getsockname()[1]))


def test_an_unknown_host_is_one_clear_error() -> None:
    with pytest.raises(StartError, match=r"can't listen on no\.such\.host\.invalid:0"):
        listen(Config(host="no.such.host.invalid"))
