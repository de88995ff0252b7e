"""Bad bytes over the network: never a traceback, never a hang, never another client disturbed."""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

from ..support import REQUEST, RawClient, client_frame, wait_for
from ..support.fuzzing import FuzzTarget, cases

quick = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server() -> Iterator[WebSocketServer]:
    rpc = RpcTable()
    rpc.register("getblockcount", lambda: 840000)
    limits = Limits.from_names(handshake_timeout=1.0, close_timeout=0.5, linger_timeout=0.2, drain_timeout=0.5)
    with WebSocketServer(rpc, Config(limits=limits)) as server:
        yield server


@pytest.fixture(scope="module")
def other(server: WebSocketServer) -> Iterator[RawClient]:
    with RawClient(server.port) as client:
        yield client


def throw(server: WebSocketServer, data: bytes) -> None:
    """Sends bytes, ends the stream, and reads to the end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass


def check(server: WebSocketServer, other: RawClient, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    throw(server, data)
    assert other.call("getblockcount")["result"] == 840000
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@quick
@given(at=st.integers(0, len(REQUEST) - 1), byte=st.integers(0, 255))
def test_every_change_of_one_byte_of_a_handshake(
    server: WebSocketServer, other: RawClient, caplog: pytest.LogCaptureFixture, at: int, byte: int
) -> None:
    check(server, other, caplog, REQUEST[:at] + bytes((byte,)) + REQUEST[at + 1 :])


@quick
@given(data=st.binary(max_size=400))
def test_random_bytes_in_place_of_a_handshake(
    server: WebSocketServer, other: RawClient, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    check(server, other, caplog, data)


@quick
@given(data=st.binary(max_size=400), cut=st.integers(0, 400))
def test_random_bytes_and_truncated_frames_after_it(
    server: WebSocketServer, other: RawClient, caplog: pytest.LogCaptureFixture, data: bytes, cut: int
) -> None:
    check(server, other, caplog, REQUEST + data)
    check(server, other, caplog, REQUEST + (client_frame(1, data) + client_frame(2, data, fin=False) * 2)[:cut])


@pytest.fixture(scope="module")
def target() -> Iterator[FuzzTarget]:
    with FuzzTarget() as target:
        yield target


@pytest.mark.load
def test_a_sample_of_the_long_fuzz(target: FuzzTarget) -> None:
    """The first cases of scripts/fuzz, which has run a million of them."""
    for pieces in itertools.islice(cases(1), 3000):
        target.run(pieces)


@quick
@given(st.lists(st.binary(max_size=100), max_size=5), st.sampled_from([b"", REQUEST, b"GET / HTTP/1.1\r\n"]))
def test_any_bytes_of_a_stranger(target: FuzzTarget, pieces: list[bytes], start: bytes) -> None:
    target.run([start, *pieces])


def test_a_fault_is_noticed(target: FuzzTarget) -> None:
    logging.getLogger("dilithion_ws").error("a fault")
    with pytest.raises(AssertionError, match="a fault"):
        target.run([REQUEST])
    target.forget()


def test_all_of_them_have_gone(server: WebSocketServer, other: RawClient) -> None:
    wait_for(lambda: server.statistics().connections.total == 1)
