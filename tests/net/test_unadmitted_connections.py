from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from dilithion_ws.net.connection import Connection
from dilithion_ws.net.unadmitted_connections import UnadmittedConnections

from ..support import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(request: pytest.FixtureRequest, clock: Clock) -> Callable[[str], Connection]:
    def make(host: str) -> Connection:
        clock.now += 10
        sock = socket.socket()
        request.addfinalizer(sock.close)
        return Connection(sock.fileno(), sock, (host, 1), clock)

    return make


def add(unadmitted: UnadmittedConnections, connection: Connection) -> Connection | None:
    return unadmitted.add(connection, connection.opened_at)


def test_the_oldest_of_the_largest_network_gives_way(make: Callable[[str], Connection]) -> None:
    unadmitted = UnadmittedConnections(4, 1.0, ())
    honest = make("192.0.2.1")
    assert add(unadmitted, honest) is None
    flood = [make(f"2001:db8::{number}") for number in range(1, 7)]
    assert [add(unadmitted, one) for one in flood] == [None, None, None, flood[0], flood[1], flood[2]]
    assert len(unadmitted) == 4
    assert add(unadmitted, make("192.0.2.2")) is flood[3]


def test_an_admitted_connection_does_not_give_way(make: Callable[[str], Connection]) -> None:
    unadmitted = UnadmittedConnections(1, 1.0, ())
    first, second, third = make("192.0.2.1"), make("192.0.2.1"), make("192.0.2.1")
    add(unadmitted, first)
    unadmitted.discard(first)
    unadmitted.discard(first)
    assert add(unadmitted, second) is None
    assert add(unadmitted, third) is second


def test_a_client_that_the_server_keeps_waiting_does_not_give_way(make: Callable[[str], Connection]) -> None:
    waiting = {make("192.0.2.1"): 1}
    unadmitted = UnadmittedConnections(1, 15.0, waiting)
    (first,) = waiting
    second, third = make("192.0.2.1"), make("192.0.2.1")
    assert [add(unadmitted, one) for one in (first, second, third)] == [None, None, None]
    assert add(unadmitted, make("192.0.2.1")) is second, "it has connected 20 s ago, and has sent nothing"


def test_what_was_accepted_in_this_turn_does_not_give_way(make: Callable[[str], Connection], clock: Clock) -> None:
    unadmitted, now = UnadmittedConnections(1, 1.0, ()), clock.now
    assert [unadmitted.add(make("192.0.2.1"), now) for _ in range(3)] == [None, None, None]
