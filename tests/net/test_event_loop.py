"""The transport as a machine: stepped turn by turn over socket pairs, without threads, with a clock of the test."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dilithion_ws import CloseStatus
from dilithion_ws.protocol.frames import CLOSE, PING, PONG, TEXT

from ..support import REQUEST, client_frame
from ..support.net import Machine

DEADLINES = (
    "call_timeout",
    "close_timeout",
    "handshake_timeout",
    "linger_timeout",
    "ping_interval",
    "pong_timeout",
    "write_stall",
)
CLOSE_1000 = client_frame(CLOSE, struct.pack("!H", 1000))


class Peer:
    """A client of the machine, and what the test knows of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.unsent = b""
        self.at_end = False
        self.is_open = False
        self.frames: list[tuple[int, bytes]] = []
        self.fast: list[bytes] = []
        self.slow: set[bytes] = set()
        self.is_closing = False

    def send(self, data: bytes) -> None:
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass

    def read(self) -> None:
        """Read everything, and split it into frames."""
        try:
            while data := self.sock.recv(1 << 16):
                self.buffer += data
            self.at_end = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.at_end = True
        if not self.is_open and b"\r\n\r\n" in self.buffer:
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 ")
            self.is_open = True
        while self.is_open and (frame := self._next_frame()) is not None:
            self.frames.append(frame)

    def _next_frame(self) -> tuple[int, bytes] | None:
        if len(self.buffer) < 2:
            return None
        size, at = self.buffer[1], 2
        if size == 126:
            if len(self.buffer) < 4:
                return None
            (size,), at = struct.unpack("!H", self.buffer[2:4]), 4
        elif size == 127:
            if len(self.buffer) < 10:
                return None
            (size,), at = struct.unpack("!Q", self.buffer[2:10]), 10
        if len(self.buffer) < at + size:
            return None
        frame = self.buffer[0] & 0x0F, self.buffer[at : at + size]
        self.buffer = self.buffer[at + size :]
        return frame

    @property
    def texts(self) -> list[bytes]:
        return [payload for opcode, payload in self.frames if opcode == TEXT]

    def check(self) -> None:
        """Each answer came once, those that need no pool in order, and nothing follows a close frame."""
        texts = self.texts
        assert len(set(texts)) == len(texts), "no answer comes twice"
        assert set(texts) <= {*self.fast, *self.slow}
        in_order = [text for text in texts if text not in self.slow]
        assert in_order == self.fast[: len(in_order)]
        opcodes = [opcode for opcode, _ in self.frames]
        assert CLOSE not in opcodes[:-1], "a close frame is the last"


@settings(max_examples=60, stateful_step_count=40)
class TransportModel(RuleBasedStateMachine):
    """Clients do what they like, in any order; the invariants hold after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(**dict.fromkeys(DEADLINES, 1e6))
        self.peers: list[Peer] = []
        self.count = 0

    def peer(self, at: int) -> Peer:
        return self.peers[at % len(self.peers)]

    @rule()
    @precondition(lambda self: len(self.peers) < 5)
    def accept(self) -> None:
        self.peers.append(Peer(self.machine.accept()))
        self.machine.step()

    @rule(at=st.integers(0, 4), cut=st.integers(0, 200))
    @precondition(lambda self: self.peers)
    def upgrade(self, at: int, cut: int) -> None:
        peer = self.peer(at)
        if not peer.is_open and not peer.is_closing and not peer.fast:
            peer.fast.append(b"echo first")
            data = REQUEST + client_frame(TEXT, b"echo first")
            peer.send(data[:cut])
            self.machine.step()
            peer.send(data[cut:])
            self.machine.step()
            peer.read()
            assert peer.is_open

    @rule(at=st.integers(0, 4), word=st.sampled_from(["echo", "slow", "stall"]), size=st.integers(0, 20_000))
    @precondition(lambda self: self.peers)
    def send(self, at: int, word: str, size: int) -> None:
        peer = self.peer(at)
        if not peer.is_open or peer.is_closing:
            return
        self.count += 1
        payload = f"{word} {self.count} ".encode() + b"x" * size
        (peer.slow.add if word == "slow" else peer.fast.append)(payload)
        peer.send(client_frame(TEXT, payload))
        self.machine.step()

    @rule(at=st.integers(0, 4))
    @precondition(lambda self: self.peers)
    def read(self, at: int) -> None:
        self.peer(at).read()
        self.machine.step()
        self.peer(at).flush()
        self.machine.step()

    @rule()
    @precondition(lambda self: self.machine.pool.jobs)
    def finish_job(self) -> None:
        self.machine.run_job()
        self.machine.step()

    @rule(at=st.integers(0, 4))
    @precondition(lambda self: self.peers)
    def client_closes(self, at: int) -> None:
        peer = self.peer(at)
        if peer.is_open and not peer.is_closing:
            peer.is_closing = True
            peer.send(CLOSE_1000)
            self.machine.step()

    @rule(at=st.integers(0, 4))
    @precondition(lambda self: self.machine.registry.websockets())
    def server_closes(self, at: int) -> None:
        connections = self.machine.registry.websockets()
        connection = connections[at % len(connections)]
        self.machine.registry.close(connection.id, CloseStatus(1000, "enough"))
        self.machine.step()
        for peer in self.peers:
            peer.read()
            peer.is_closing = peer.is_closing or (bool(peer.frames) and peer.frames[-1][0] == CLOSE)

    @rule(at=st.integers(0, 4))
    @precondition(lambda self: self.peers)
    def disconnect(self, at: int) -> None:
        peer = self.peers.pop(at % len(self.peers))
        peer.read()
        peer.check()
        peer.sock.close()
        self.machine.step()

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds: float) -> None:
        self.machine.advance(seconds)

    @invariant()
    def answers_are_right(self) -> None:
        for peer in self.peers:
            peer.read()
            peer.check()

    @invariant()
    def every_connection_is_counted_once(self) -> None:
        connections = self.machine.registry.all()
        assert self.machine.limiter.total == len(connections)
        assert set(self.machine.reactor.by_fd.values()) == set(connections)
        assert len(self.machine.service.opened) >= len(self.machine.service.closed)

    def teardown(self) -> None:
        for _ in range(100):
            while self.machine.pool.jobs:
                self.machine.run_job()
            self.machine.step()
            for peer in self.peers:
                peer.flush()
                peer.read()
        for peer in self.peers:
            if peer.is_open and not peer.is_closing:
                assert peer.unsent == b""
                assert set(peer.texts) == {*peer.fast, *peer.slow}, "every message was answered"
            peer.check()
        self.machine.close()
        assert self.machine.limiter.total == 0
        assert len(self.machine.service.opened) == len(self.machine.service.closed)
        for peer in self.peers:
            peer.sock.close()


TestTransport = TransportModel.TestCase


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.close()


@pytest.fixture
def peer(machine: Machine) -> Iterator[Peer]:
    peer = Peer(machine.accept())
    peer.send(REQUEST)
    machine.step()
    peer.read()
    with peer.sock:
        yield peer


def test_a_silent_client_is_pinged_and_then_closed(machine: Machine, peer: Peer) -> None:
    limits = machine.reactor.limits.connections
    machine.advance(limits.ping_interval)
    peer.read()
    assert [opcode for opcode, _ in peer.frames] == [PING]
    machine.advance(limits.pong_timeout)
    peer.read()
    assert [opcode for opcode, _ in peer.frames] == [PING, CLOSE]


def test_a_client_that_answers_pings_stays(machine: Machine, peer: Peer) -> None:
    limits = machine.reactor.limits.connections
    for count in range(1, 5):
        machine.advance(limits.ping_interval)
        peer.read()
        assert len(peer.frames) == count
        peer.send(client_frame(PONG, peer.frames[-1][1]))
        machine.step()
    assert [opcode for opcode, _ in peer.frames] == [PING] * 4


def test_a_client_that_sends_gets_no_pings(machine: Machine, peer: Peer) -> None:
    for _ in range(5):
        machine.advance(0.9 * machine.reactor.limits.connections.ping_interval)
        peer.send(client_frame(TEXT, b"echo"))
        machine.step()
    peer.read()
    assert [opcode for opcode, _ in peer.frames] == [TEXT] * 5


def test_a_call_past_its_deadline_is_answered_once(machine: Machine, peer: Peer) -> None:
    peer.send(client_frame(TEXT, b"slow 1"))
    machine.step()
    machine.advance(machine.reactor.limits.calls.call_timeout)
    peer.read()
    assert peer.texts == [b"expired slow 1"]
    while machine.pool.jobs:
        machine.run_job()
    machine.step()
    peer.read()
    assert peer.texts == [b"expired slow 1"]


def test_a_client_that_does_not_upgrade_gets_408(machine: Machine) -> None:
    peer = Peer(machine.accept())
    with peer.sock:
        peer.send(b"GET / HT")
        machine.step()
        machine.advance(machine.reactor.limits.connections.handshake_timeout)
        assert peer.sock.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_dropped(machine: Machine, peer: Peer) -> None:
    for number in range(20):
        peer.send(client_frame(TEXT, b"echo %d " % number + b"x" * 60_000))
        machine.step()
    assert machine.registry.all()[0].unsent > 0
    machine.advance(machine.reactor.limits.connections.write_stall + 0.1)
    machine.advance(machine.reactor.limits.connections.write_stall + 0.1)
    assert machine.registry.all() == []


def test_a_peer_that_does_not_answer_the_close_is_dropped(machine: Machine, peer: Peer) -> None:
    machine.registry.close(machine.registry.all()[0].id, CloseStatus(4000, "enough"))
    machine.step()
    peer.read()
    assert peer.frames == [(CLOSE, struct.pack("!H", 4000) + b"enough")]
    machine.advance(machine.reactor.limits.connections.close_timeout + 0.1)
    machine.advance(machine.reactor.limits.connections.linger_timeout + 0.1)
    assert machine.registry.all() == []
    assert machine.service.closed[0][1].code == 4000
