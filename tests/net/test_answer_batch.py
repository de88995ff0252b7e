"""Answers that leave together: clients receive the same, in the same order, and none waits for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import CloseStatus, Session
from dilithion_ws.net.close_handshake import CloseHandshake
from dilithion_ws.net.connection import Connection, SendResult
from dilithion_ws.protocol.frames import CLOSE, PING, PONG, TEXT, encode_frame
from dilithion_ws.util.enums import Speed

from ..support import REQUEST, client_frame
from ..support.net import Echo, EchoTask, Machine

DELAY = 0.0005
ANSWER = encode_frame(TEXT, b"echo 1")


class Talk(Echo):
    """An echo service. At each message the test may look at what has been sent, and put a task in place of the echo."""

    def __init__(self) -> None:
        super().__init__()
        self.on_message: Callable[[Session], Any] = lambda session: None

    def receive(self, session: Session, opcode: int, payload: bytes) -> Any:
        task = self.on_message(session)
        return super().receive(session, opcode, payload) if task is None else task


class Room:
    """A machine and its open clients, in the order in which they connected."""

    def __init__(self, clients: int = 2, **options: Any) -> None:
        self.machine = Machine(**{"ping_interval": 1e6, **options})
        self.service = Talk()
        self.machine.service = self.service
        self.machine.reactor.service = self.machine.loop.handler.messages.service = self.service
        self.service.loop = self.machine.loop
        self.clients = [self.machine.accept() for _ in range(clients)]
        for client in self.clients:
            client.send(REQUEST)
            self.machine.step()
            client.recv(4096)
        self.ids = sorted(connection.id for connection in self.machine.registry.all())

    def received(self, at: int) -> bytes:
        """What a client has received since the last look."""
        try:
            return self.clients[at].recv(1 << 20)
        except BlockingIOError:
            return b""

    def call_all(self, on_second: Callable[[Session], Any]) -> tuple[bytes, int]:
        """Have two clients call in the same turn.

        Returns:
            What the first has received when the second one's message is handled, and which client is the first.
        """
        order: list[int] = []
        seen: list[bytes] = []

        def on_message(session: Session) -> Any:
            order.append(self.ids.index(session.connection_id))
            if len(order) < 2:
                return None
            outcome = on_second(session)
            seen.append(self.received(order[0]))
            return outcome

        self.service.on_message = on_message
        for client in self.clients:
            client.send(client_frame(TEXT, b"echo 1"))
        self.machine.step()
        return seen[0], order[0]

    def close(self) -> None:
        self.machine.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def make(**options: Any) -> Room:
        rooms.append(Room(**options))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


messages = st.tuples(
    st.sampled_from([TEXT, TEXT, TEXT, PING, PONG, CLOSE]),
    st.builds(bytes.__add__, st.sampled_from([b"echo ", b"slow ", b"stall "]), st.binary(max_size=20)),
)


def conversation(turns: list[list[tuple[int, int, bytes]]], delay: float) -> list[bytes]:
    """Return what each of three clients receives if these send messages, some of them in the same turn."""
    room = Room(3, answer_delay=delay)
    try:
        for turn in turns:
            for at, opcode, payload in turn:
                if opcode == CLOSE:
                    payload = b"\x03\xe8"
                elif opcode == TEXT and not payload.isascii():
                    continue
                try:
                    room.clients[at].send(client_frame(opcode, payload))
                except OSError:
                    continue  # closed
            room.machine.step()
            while room.machine.pool.jobs:
                room.machine.run_job()
                room.machine.step()
        return [room.received(at) for at in range(3)]
    finally:
        room.close()


@given(
    st.lists(
        st.lists(st.builds(lambda at, message: (at, *message), st.integers(0, 2), messages), max_size=6), max_size=4
    )
)
def test_clients_receive_what_they_do_without_it(turns: list[list[tuple[int, int, bytes]]]) -> None:
    assert conversation(turns, DELAY) == conversation(turns, 0.0)


def test_answers_of_a_turn_leave_after_its_calls(make: Callable[..., Room]) -> None:
    room = make(answer_delay=DELAY)
    assert room.call_all(lambda session: None)[0] == b""
    assert room.received(0) == room.received(1) == ANSWER


def test_without_a_delay_each_answer_leaves_at_once(make: Callable[..., Room]) -> None:
    assert make(answer_delay=0.0).call_all(lambda session: None)[0] == ANSWER


def test_an_answer_does_not_wait_longer_than_its_delay(make: Callable[..., Room]) -> None:
    room = make(clients=4, answer_delay=DELAY)
    seen: list[bytes] = []
    order: list[int] = []

    def on_message(session: Session) -> None:
        order.append(room.ids.index(session.connection_id))
        seen.append(room.received(order[0]))
        room.machine.clock.now += 0.7 * DELAY

    room.service.on_message = on_message
    for client in room.clients:
        client.send(client_frame(TEXT, b"echo 1"))
    room.machine.step()
    # The first answer begins to wait at 0.7 delays. At 1.4 it goes on, and at 2.1 it leaves, before the fourth call.
    assert seen == [b"", b"", b"", ANSWER]
    assert [room.received(at) for at in range(4)].count(ANSWER) == 3
    assert room.machine.loop.handler.messages.answers.waiting == []


def test_neither_does_one_to_a_message_that_waited_for_another_turn(make: Callable[..., Room]) -> None:
    room = make(clients=4, answer_delay=DELAY, frames_per_turn=1)
    seen: list[bytes] = []
    order: list[int] = []

    def on_message(session: Session) -> None:
        order.append(room.ids.index(session.connection_id))
        if len(order) > 4:  # the second message of each
            seen.append(room.received(order[4]))
            room.machine.clock.now += 0.7 * DELAY

    room.service.on_message = on_message
    for client in room.clients:
        client.send(client_frame(TEXT, b"echo 1") * 2)
    room.machine.step()
    assert sorted(order[:4]) == sorted(order[4:]) == [0, 1, 2, 3]
    assert seen == [ANSWER, b"", b"", ANSWER]  # first the answer to its first message


def test_a_call_of_unknown_duration_keeps_no_answer_waiting(make: Callable[..., Room]) -> None:
    room = make(answer_delay=DELAY)

    class Look(EchoTask):
        def run(self) -> bytes:
            seen.append(room.received(first[0]))
            return b"looked"

    seen: list[bytes] = []
    first: list[int] = []

    def on_message(session: Session) -> Any:
        first.append(room.ids.index(session.connection_id))
        return Look(room.service, session, b"", Speed.UNKNOWN) if len(first) == 2 else None

    room.service.on_message = on_message
    for client in room.clients:
        client.send(client_frame(TEXT, b"echo 1"))
    room.machine.step()
    assert seen == [ANSWER]


def test_a_handler_that_holds_up_the_loop_keeps_answers_until_the_loop_is_taken_from_it(
    make: Callable[..., Room],
) -> None:
    room = make(answer_delay=1e6)
    stalled: list[EchoTask] = []

    def stall(session: Session) -> EchoTask:
        for client in room.clients:
            client.send(client_frame(PING, b""))  # which the next leader finds at once
        stalled.append(EchoTask(room.service, session, b"stalled", Speed.DECLARED_FAST))
        return stalled[0]

    seen, first = room.call_all(stall)
    assert seen == b""
    assert stalled[0].stalls == 1
    assert room.received(first) == ANSWER + encode_frame(PONG, b"")
    assert room.received(1 - first) == encode_frame(TEXT, b"stalled") + encode_frame(PONG, b"")


def test_a_close_that_policy_demands_follows_the_answer(make: Callable[..., Room]) -> None:
    room = make(clients=1, answer_delay=DELAY)

    def demand(session: Session) -> None:
        session.close_after = CloseStatus(4403, "enough")

    room.service.on_message = demand
    room.clients[0].send(client_frame(TEXT, b"echo 1"))
    room.machine.step()
    assert room.received(0) == ANSWER + encode_frame(CLOSE, b"\x11\x33enough")


def test_what_a_hook_sends_follows_the_answer(make: Callable[..., Room]) -> None:
    room = make(clients=1, answer_delay=DELAY)
    note = encode_frame(TEXT, b"first event")

    class Hooked(EchoTask):
        def run(self) -> bytes:
            self.hooks = [lambda is_sent: room.machine.registry.send(room.ids[0], note)]
            return b"echo 1"

        hooks: Any = None

    room.service.on_message = lambda session: Hooked(room.service, session, b"", Speed.MEASURED_FAST)
    room.clients[0].send(client_frame(TEXT, b"echo 1"))
    room.machine.step()
    assert room.received(0) == ANSWER + note


def test_a_client_that_does_not_read_gets_the_rest_later(make: Callable[..., Room]) -> None:
    room = make(answer_delay=DELAY)
    long = b"echo " + b"x" * 60_000
    for client in room.clients:
        client.send(client_frame(TEXT, long))
    room.machine.step()
    wanted, got = encode_frame(TEXT, long), b""
    while len(got) < len(wanted):
        piece = room.received(0)
        assert piece
        got += piece
        room.machine.step()
    assert got == wanted


@pytest.mark.parametrize("kind", ["notification", "two messages", "for the pool"])
def test_an_answer_waits_no_longer_than_its_delay_whatever_follows(make: Callable[..., Room], kind: str) -> None:
    """Each of 38 others takes a millisecond, and none of them has a single answer to wait itself."""
    room = make(clients=40, answer_delay=DELAY)
    clock = room.machine.clock
    first: list[int] = []
    times: list[float] = []

    class Brief(EchoTask):
        def run(self) -> Any:
            clock.now += 0.001
            return None if kind == "notification" else b"echo 1"

    def on_message(session: Session) -> Any:
        if not first:
            first.append(room.ids.index(session.connection_id))
            times.append(clock())
            return None
        if len(times) < 2 and room.received(first[0]):
            times.append(clock())
        if kind == "for the pool":
            clock.now += 0.001  # to parse it
            return EchoTask(room.service, session, b"x", Speed.SLOW)
        return Brief(room.service, session, b"", Speed.MEASURED_FAST)

    room.service.on_message = on_message
    for index, client in enumerate(room.clients):
        twice = kind == "two messages" and index not in (0, 39)  # whichever of these two is the first one
        client.send(client_frame(TEXT, b"echo 1") * (2 if twice else 1))
    room.machine.step()
    began, ended = times
    assert ended - began < DELAY + 0.0025  # one client of two messages, and the look


@pytest.mark.parametrize("can_close", [True, False])
def test_a_fault_with_one_client_costs_no_other_its_answer(
    make: Callable[..., Room], monkeypatch: pytest.MonkeyPatch, can_close: bool
) -> None:
    room = make(clients=3, answer_delay=DELAY)
    real = Connection.send

    def send(connection: Connection, data: bytes) -> SendResult:
        if connection.id == room.ids[1]:
            raise MemoryError
        return real(connection, data)

    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Connection, "send", send)
    if not can_close:
        monkeypatch.setattr(CloseHandshake, "fail", fail)
    for client in room.clients:
        client.send(client_frame(TEXT, b"echo 1"))
    room.machine.step()
    assert [room.received(at) for at in (0, 2)] == [ANSWER, ANSWER]
    assert room.received(1) == (encode_frame(CLOSE, b"\x03\xf3internal error") if can_close else b"")
