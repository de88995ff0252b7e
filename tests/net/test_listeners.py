"""Sockets that a server listens on: made for its addresses, or given."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError, StartError, WebSocketServer
from dilithion_ws.net.listeners import Listeners, adopt_sockets, listen

from ..support import RawClient
from ..support.fixtures import ServerFactory


@contextmanager
def listening(config: Config) -> Iterator[Listeners]:
    listeners = listen(config)
    try:
        yield listeners
    finally:
        listeners.close()


def addresses(listeners: Listeners) -> list[str]:
    return [sock.getsockname()[0] for sock in listeners.sockets]


class WithoutIpv6(socket.socket):
    """Sockets of a machine that has no IPv6 address."""

    def bind(self, address: Any) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        super().bind(address)


def test_both_loopback_addresses_are_the_default() -> None:
    with listening(Config()) as listeners:
        assert addresses(listeners) == ["127.0.0.1", "::1"]
        assert {sock.getsockname()[1] for sock in listeners.sockets} == {listeners.port}


def test_without_ipv6_the_other_addresses_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dilithion_ws.net.listeners.socket.socket", WithoutIpv6)
    with listening(Config()) as listeners:
        assert addresses(listeners) == ["127.0.0.1"]
    with pytest.raises(StartError, match="can't listen on ::1"):
        listen(Config("::1"))


def test_all_addresses_of_both_families_do_not_collide() -> None:
    with listening(Config("0.0.0.0,::")) as listeners:
        assert addresses(listeners) == ["0.0.0.0", "::"]


def test_a_port_in_use_is_one_clear_error() -> None:
    with listening(Config("127.0.0.1")) as first, pytest.raises(StartError, match=r"another program listens there"):
        listen(Config("127.0.0.1", port=first.port))


def test_a_port_that_is_taken_on_one_address_closes_the_others() -> None:
    with listening(Config("::1")) as taken:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartError, match=r"can't listen on ::1"):
            listen(Config("127.0.0.1,::1", port=taken.port))
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_free_port_is_free_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [errno.EADDRINUSE] * 3

    class TakenAtFirst(socket.socket):
        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6 and failures:
                raise OSError(failures.pop(), "Address already in use")
            super().bind(address)

    monkeypatch.setattr("dilithion_ws.net.listeners.socket.socket", TakenAtFirst)
    with listening(Config()) as listeners:
        assert addresses(listeners) == ["127.0.0.1", "::1"]
    failures += [errno.EADDRINUSE] * 100
    with pytest.raises(StartError, match=r"no port is free on all of 127\.0\.0\.1,::1"):
        listen(Config())


def test_two_names_of_one_address_are_one() -> None:
    with listening(Config("127.0.0.1,127.0.0.1")) as listeners:
        assert addresses(listeners) == ["127.0.0.1"]


def test_an_unknown_host_is_one_clear_error() -> None:
    with pytest.raises(StartError, match=r"can't listen on no\.such\.host\.invalid:0"):
        listen(Config("no.such.host.invalid"))


def test_a_server_answers_on_all_of_its_addresses(start: ServerFactory) -> None:
    server = start()
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as client:
            client.settimeout(10)
            client.connect((host, server.port))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_server_on_given_sockets_leaves_them_open_elsewhere(start: ServerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        kept = given.dup()  # as systemd, or a parent process, keeps it
        server = start(sockets=[given])
        assert (server.port, server.config.host) == (kept.getsockname()[1], "127.0.0.1")
        with RawClient(server.port) as client:
            assert client.call("getblockcount")["result"] == 840000
        server.stop()
        with kept, socket.create_connection(kept.getsockname(), timeout=10):
            kept.settimeout(10)
            kept.accept()[0].close()  # a connection between two runs waits for the next one
        with pytest.raises(StartError, match="were closed by the last run"):
            server.start()


def test_sockets_that_cannot_be_used_are_an_error() -> None:
    with socket.socket() as sock, pytest.raises(ConfigError, match="does not listen"):
        adopt_sockets(Config(), [sock])
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(ConfigError, match="TCP sockets of IPv4 or IPv6"):
        adopt_sockets(Config(), [sock])


def test_a_public_socket_is_unsafe_like_a_public_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as public:
        server = WebSocketServer(sockets=[public])
        with pytest.raises(ConfigError, match="not a loopback address"):
            server.start()
