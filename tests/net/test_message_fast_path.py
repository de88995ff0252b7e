"""The shortcuts do what the slow paths do, whatever comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws.net.connection import BROKEN, BUFFERED, CLOSED, CLOSING, OPEN, SENT, Connection
from dilithion_ws.net.connection_registry import ConnectionSubscriber
from dilithion_ws.net.mailbox import Mailbox
from dilithion_ws.net.message_fast_path import send_to_many
from dilithion_ws.protocol.frames import BINARY, PING, PONG, TEXT
from dilithion_ws.util.clock import monotonic
from dilithion_ws.util.enums import OfferResult

from ..support import REQUEST, client_frame
from ..support.net import Machine

words = st.sampled_from([b"echo ", b"slow ", b"stall "])
messages = st.tuples(
    st.sampled_from([TEXT, BINARY, PING, PONG]), st.builds(bytes.__add__, words, st.binary(max_size=40))
)


def conversation(chunks: list[list[tuple[int, bytes]]]) -> tuple[bytes, list[Any]]:
    """Return everything that a client receives which sends these frames, some at a time."""
    machine = Machine()
    sock = machine.accept()
    received = b""
    try:
        sock.send(REQUEST)
        machine.step()
        for chunk in chunks:
            frames = [client_frame(opcode, payload) for opcode, payload in chunk if opcode != TEXT or payload.isascii()]
            sock.send(b"".join(frames))
            machine.step()
        while machine.pool.jobs:
            machine.run_job()
            machine.step()
        while True:
            received += sock.recv(1 << 20)
    except BlockingIOError:
        return received, [status for _, status in machine.service.closed]
    finally:
        sock.close()
        machine.close()


@given(st.lists(st.lists(messages, min_size=1, max_size=3), max_size=5))
def test_one_message_is_answered_as_several_are(chunks: list[list[tuple[int, bytes]]]) -> None:
    quick = conversation(chunks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dilithion_ws.net.connection_handler.answer_events",
            lambda runner, connection, events: runner.serve(connection, events),
        )
        assert conversation(chunks) == quick


class Recipient:
    """A cursor, as far as delivery knows it."""

    def __init__(self, connection: Connection, mailbox: Mailbox) -> None:
        self.subscriber = ConnectionSubscriber(connection, mailbox)
        self.ended = False


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.close()


def send_slowly(data: bytes, recipient: Recipient) -> OfferResult:
    """Send as `Connection.send` does, one connection at a time."""
    connection = recipient.subscriber.connection
    if recipient.ended or connection.state is not OPEN:
        return OfferResult.CLOSED
    if connection.write_buffer is not None:
        return OfferResult.REJECTED
    results = {SENT: OfferResult.SENT, BUFFERED: OfferResult.BUFFERED, BROKEN: OfferResult.CLOSED}
    return results[connection.send(data)]


@pytest.mark.parametrize("size", [10, 1 << 20])
@pytest.mark.parametrize("case", ["open", "buffered", "closing", "closed", "ended", "broken"])
def test_delivery_to_many_is_delivery_to_each(case: str, size: int, mailbox: Mailbox) -> None:
    outcomes = []
    for function in ("many", "each"):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        connection = Connection(1, ours, ("127.0.0.1", 1), monotonic)
        connection.state = {"closing": CLOSING, "closed": CLOSED}.get(case, OPEN)
        recipient = Recipient(connection, mailbox)
        recipient.ended = case == "ended"
        with ours, theirs:
            if case == "buffered":
                connection.send(b"x" * (1 << 20))
            if case == "broken":
                theirs.close()
            data = b"y" * size
            if function == "many":
                undelivered = send_to_many(data, (recipient,))
                outcomes.append(undelivered[0][1] if undelivered else OfferResult.SENT)
            else:
                outcomes.append(send_slowly(data, recipient))
            outcomes.append(connection.unsent > 0)  # type: ignore[arg-type]
    assert outcomes[:2] == outcomes[2:]


def test_a_fault_ends_the_delivery_to_one_only(caplog: pytest.LogCaptureFixture, mailbox: Mailbox) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        good = Recipient(Connection(1, ours, ("127.0.0.1", 1), monotonic), mailbox)
        good.subscriber.connection.state = OPEN
        bad = Recipient(good.subscriber.connection, mailbox)
        bad.subscriber = type("Subscriber", (), {"connection": None})()  # type: ignore[assignment]
        assert send_to_many(b"x", (bad, good)) == [(bad, OfferResult.CLOSED)]
        assert theirs.recv(10) == b"x"
        assert "delivering to None failed" in caplog.text
