from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dilithion_ws.net.connection import TRANSITIONS, Connection, ConnectionState, SendResult
from dilithion_ws.util.clock import monotonic

Pair = tuple[Connection, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Connection(1, ours, ("127.0.0.1", 1), monotonic), theirs


def test_the_transition_table_names_every_state_and_ends_in_closed() -> None:
    assert set(TRANSITIONS) == set(ConnectionState)
    assert TRANSITIONS[ConnectionState.CLOSED] == frozenset()
    assert all(
        ConnectionState.CLOSED in after for state, after in TRANSITIONS.items() if state is not ConnectionState.CLOSED
    )


def test_a_wrong_transition_is_a_fault(pair: Pair) -> None:
    connection, _ = pair
    with connection.lock, pytest.raises(AssertionError):
        connection.transition(ConnectionState.CLOSING)


def test_nothing_is_sent_before_the_upgrade_or_behind_a_close(pair: Pair) -> None:
    connection, _ = pair
    for state in ConnectionState:
        connection.state = state
        expected = SendResult.SENT if state is ConnectionState.OPEN else SendResult.REFUSED
        assert connection.send(b"x") is expected


def test_what_the_socket_does_not_take_waits_in_order(pair: Pair) -> None:
    connection, theirs = pair
    connection.state = ConnectionState.OPEN
    data = bytes(range(256)) * 4000
    assert connection.send(data) is SendResult.BUFFERED
    assert connection.send(b"end") is SendResult.BUFFERED
    received = b""
    while connection.flush(1.0) is SendResult.BUFFERED or len(received) < len(data) + 3:
        received += theirs.recv(1 << 20)
    assert received == data + b"end"
    assert connection.write_buffer is None
    assert connection.unsent == 0


def test_a_broken_socket_shows(pair: Pair) -> None:
    connection, theirs = pair
    connection.state = ConnectionState.OPEN
    assert connection.send(bytes(1 << 22)) is SendResult.BUFFERED
    theirs.close()
    assert connection.flush(1.0) is SendResult.BROKEN
    connection.write_buffer = None
    assert connection.send(b"x") is SendResult.BROKEN
