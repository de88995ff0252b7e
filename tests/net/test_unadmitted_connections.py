from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from dilithion_ws.net.connection import Connection
from dilithion_ws.net.unadmitted_connections import UnadmittedConnections

from ..support import Clock


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[[str], Connection]:
    def make(host: str) -> Connection:
        sock = socket.socket()
        request.addfinalizer(sock.close)
        return Connection(sock.fileno(), sock, (host, 1), Clock())

    return make


def test_the_oldest_of_the_largest_network_gives_way(make: Callable[[str], Connection]) -> None:
    waiting = UnadmittedConnections(4)
    honest = make("192.0.2.1")
    assert waiting.add(honest) is None
    flood = [make(f"2001:db8::{number}") for number in range(1, 7)]
    assert [waiting.add(one) for one in flood] == [None, None, None, flood[0], flood[1], flood[2]]
    assert len(waiting) == 4
    assert waiting.add(make("192.0.2.2")) is flood[3]


def test_an_admitted_connection_does_not_give_way(make: Callable[[str], Connection]) -> None:
    waiting = UnadmittedConnections(1)
    first, second, third = make("192.0.2.1"), make("192.0.2.1"), make("192.0.2.1")
    waiting.add(first)
    waiting.discard(first)
    waiting.discard(first)
    assert waiting.add(second) is None
    assert waiting.add(third) is second
