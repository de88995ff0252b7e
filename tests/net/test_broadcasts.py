"""Broadcasts: each client gets all of them in order, or is closed with 4108, whatever it reads and when."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dilithion_ws import CloseStatus
from dilithion_ws.net.connection import BUFFERED, SENT
from dilithion_ws.net.write_buffer import WriteBuffer
from dilithion_ws.protocol.frames import CLOSE, TEXT
from dilithion_ws.protocol.message_encoder import encode_message

from ..support import REQUEST
from ..support.net import Machine
from .test_event_loop import Peer

Room = Callable[..., "tuple[Machine, list[Peer]]"]


@pytest.fixture
def room() -> Iterator[Room]:
    """Makes a server without threads, and clients that are connected to it."""
    made: list[tuple[Machine, list[Peer]]] = []

    def room(clients: int, **options: Any) -> tuple[Machine, list[Peer]]:
        machine = Machine(ping_interval=1e6, **options)
        peers = [connect(machine) for _ in range(clients)]
        made.append((machine, peers))
        return machine, peers

    yield room
    for machine, peers in made:
        machine.close()
        for peer in peers:
            peer.sock.close()


def connect(machine: Machine) -> Peer:
    peer = Peer(machine.accept())
    peer.send(REQUEST)
    machine.step()
    peer.read()
    assert peer.is_open
    return peer


def texts_of(machine: Machine, peer: Peer) -> list[bytes]:
    """Let a client read everything that there is for it."""
    quiet, seen = 0, (0, 0)
    while quiet < 3:
        peer.read()
        machine.step()
        machine.send_broadcasts()
        quiet = quiet + 1 if seen == (len(peer.buffer), len(peer.frames)) else 0
        seen = len(peer.buffer), len(peer.frames)
    return peer.texts


def broadcast(machine: Machine, *texts: str) -> None:
    for text in texts:
        machine.registry.broadcast(encode_message(text))


def test_a_burst_is_one_batch_for_each_client(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, peers = room(3)
    broadcasts = machine.registry.broadcasts
    made: list[int] = []
    original = broadcasts.batch

    def batch(position: int, size: int) -> Any:
        made.append(position)
        return original(position, size)

    monkeypatch.setattr(broadcasts, "batch", batch)
    broadcast(machine, *(f"m{number}" for number in range(20)))
    machine.send_broadcasts()
    assert made == [0], "one batch for all of them"
    for peer in peers:
        assert texts_of(machine, peer) == [b"m%d" % number for number in range(20)]


def test_who_connects_later_gets_later_ones(room: Room) -> None:
    machine, peers = room(1)
    broadcast(machine, "before")
    late = connect(machine)
    peers.append(late)
    broadcast(machine, "after")
    machine.send_broadcasts()
    assert texts_of(machine, late) == [b"after"]


def test_a_message_to_one_client_and_a_close_follow_what_was_broadcast_before(room: Room) -> None:
    machine, (peer, other) = room(2)
    ids = [connection.id for connection in machine.registry.websockets()]
    broadcast(machine, "first")
    machine.registry.send(ids[0], encode_message("second"))
    broadcast(machine, "third")
    machine.registry.close(ids[0], CloseStatus(4000, "enough"))
    machine.step()
    peer.read()
    assert [payload for _, payload in peer.frames[:3]] == [b"first", b"second", b"third"]
    assert peer.frames[3][0] == CLOSE
    machine.send_broadcasts()
    assert texts_of(machine, other) == [b"first", b"third"]


def test_a_client_that_does_not_read_costs_one_batch_and_continues(room: Room) -> None:
    machine, (slow, prompt) = room(2, outbox=1 << 20)
    connection = machine.registry.websockets()[0]
    for number in range(10):
        broadcast(machine, f"{number} " + "x" * 60_000)
        machine.send_broadcasts()
        prompt.read()
    assert connection.unsent < 2 * 65_536
    assert [text[:1] for text in texts_of(machine, prompt)] == [b"%d" % number for number in range(10)]
    assert [text[:1] for text in texts_of(machine, slow)] == [b"%d" % number for number in range(10)]


def test_who_falls_behind_by_more_than_the_outbox_is_closed(room: Room) -> None:
    machine, (slow, prompt) = room(2, outbox=100_000)
    for _ in range(12):
        broadcast(machine, "x" * 30_000)
        machine.send_broadcasts()
        texts_of(machine, prompt)
    texts_of(machine, slow)
    assert slow.frames[-1][0] == CLOSE
    assert int.from_bytes(slow.frames[-1][1][:2], "big") == 4108
    assert b"rpcwebsocketoutbox" in slow.frames[-1][1]
    assert len(prompt.texts) == 12


def test_a_host_that_is_faster_than_the_threads_helps_them(room: Room) -> None:
    """So that no client that reads is closed, and nothing grows."""
    machine, (peer,) = room(1, outbox=10_000)
    for number in range(100):
        broadcast(machine, f"{number} " + "x" * 1000)
        peer.read()
        machine.step()
    assert [int(text.split()[0]) for text in texts_of(machine, peer)] == list(range(100))


def test_a_client_that_catches_up_gets_all_batches(room: Room) -> None:
    """Also if its socket takes each of them whole, so that no event of the poller follows."""
    machine, (peer,) = room(1)
    (connection,) = machine.registry.websockets()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    with connection.lock:
        connection.write_buffer = WriteBuffer(0.0)
        connection.write_buffer.append(encode_message("before"))
    machine.mailbox.post(lambda leader: leader.messages.after_send(connection, BUFFERED))
    for number in range(9):
        broadcast(machine, f"{number} " + "x" * 30_000)
        for shard in machine.registry.broadcasts.shards:
            with shard.step_lock:
                shard.step()
    machine.step()
    machine.send_broadcasts()
    assert connection.broadcast_at == 9
    assert [text[:1] for text in texts_of(machine, peer)] == [b"b", *(b"%d" % number for number in range(9))]


def test_a_large_frame_comes_before_the_close(room: Room) -> None:
    machine, (peer,) = room(1, outbox=20_000)
    (connection,) = machine.registry.websockets()
    broadcast(machine, "small")
    with machine.registry.broadcasts.shards[0].step_lock:  # the threads have not sent it when it is closed
        machine.registry.broadcasts._frames.append(encode_message("x" * 300_000))
        machine.registry.broadcasts.head += 1
    machine.registry.close(connection.id, CloseStatus(4000, "enough"))
    texts_of(machine, peer)
    assert [len(payload) for opcode, payload in peer.frames if opcode == TEXT] == [5, 300_000]
    assert peer.frames[-1][0] == CLOSE


def test_clients_that_do_not_read_cost_no_copies(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, peers = room(4)
    made: list[int] = []
    for number in range(6):
        broadcast(machine, f"{number} " + "x" * 30_000)
        machine.send_broadcasts()
    original = machine.registry.broadcasts.batch
    monkeypatch.setattr(machine.registry.broadcasts, "batch", lambda *args: (made.append(1), original(*args))[1])
    for _ in range(5):
        broadcast(machine, "more")
        machine.send_broadcasts()
    assert made == []
    for peer in peers:
        assert len(texts_of(machine, peer)) == 11


def test_a_ping_brings_no_backlog(room: Room) -> None:
    machine, _ = room(1)
    (connection,) = machine.registry.websockets()
    broadcast(machine, "x" * 30_000)
    assert connection.send_control(b"\x89\0") is SENT
    assert connection.broadcast_at == 0


@settings(max_examples=50, stateful_step_count=30)
class BroadcastModel(RuleBasedStateMachine):
    """Clients come, go and read when they like, while the host broadcasts and sends."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(ping_interval=1e6, write_stall=1e6, outbox=20_000)
        self.peers: list[tuple[Peer, int, list[bytes]]] = []  # each with its number and what it should get
        self.count = 0

    @rule()
    @precondition(lambda self: len(self.peers) < 4)
    def connect(self) -> None:
        before = {connection.id for connection in self.machine.registry.websockets()}
        peer = connect(self.machine)
        (id,) = {connection.id for connection in self.machine.registry.websockets()} - before
        self.peers.append((peer, id, []))

    @rule(count=st.integers(1, 5), size=st.sampled_from([0, 200, 3000, 12_000]))
    def broadcast(self, count: int, size: int) -> None:
        for _ in range(count):
            self.count += 1
            text = b"%d " % self.count + b"x" * size
            self.machine.registry.broadcast(encode_message(text.decode()))
            for _, _, wanted in self.peers:
                wanted.append(text)

    @rule(at=st.integers(0, 3))
    @precondition(lambda self: self.peers)
    def send(self, at: int) -> None:
        _, id, wanted = self.peers[at % len(self.peers)]
        self.count += 1
        try:
            self.machine.registry.send(id, encode_message(f"{self.count} to you"))
        except Exception:
            return  # it is closing, or its buffer is full
        wanted.append(b"%d to you" % self.count)

    @rule()
    def deliver(self) -> None:
        self.machine.send_broadcasts()

    @rule()
    def turn(self) -> None:
        self.machine.step()

    @rule(at=st.integers(0, 3))
    @precondition(lambda self: self.peers)
    def read(self, at: int) -> None:
        self.peers[at % len(self.peers)][0].read()
        self.machine.step()

    @rule(at=st.integers(0, 3))
    @precondition(lambda self: self.peers)
    def disconnect(self, at: int) -> None:
        peer, _, wanted = self.peers.pop(at % len(self.peers))
        peer.read()
        assert peer.texts == wanted[: len(peer.texts)]
        peer.sock.close()
        self.machine.step()

    def teardown(self) -> None:
        self.machine.send_broadcasts()
        for peer, _, wanted in self.peers:
            found = texts_of(self.machine, peer)
            closes = [payload for opcode, payload in peer.frames if opcode == CLOSE]
            assert {opcode for opcode, _ in peer.frames} <= {TEXT, CLOSE}
            if closes:
                assert int.from_bytes(closes[0][:2], "big") == 4108
                assert found == wanted[: len(found)]
            else:
                assert found == wanted
        self.machine.close()
        for peer, _, _ in self.peers:
            peer.sock.close()


TestBroadcasts = BroadcastModel.TestCase
