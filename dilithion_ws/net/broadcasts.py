"""Messages of the host to all clients, sent by the threads that deliver events.

`Broadcasts.append` puts a frame into a log of a few frames, and a client costs its position in it. So a burst leaves as
one batch, made once for all clients that are at the same position, and a client that does not read costs nothing more.

Invariants
1. `Connection.broadcast_at`, the number of the last frame that it got, is guarded by the connection's lock. A thread
   that holds it may send what follows, so the order is right whichever thread sends.
2. `deliver` sends what is outstanding before an answer or a message of the host to this client, and before a close frame.
   Only events may overtake a broadcast.
3. A client whose next frame has left the log is closed with 4108: it knows then that it has missed something.
4. The log holds `outbox` bytes. If the delivering threads fall behind by more, the host's thread helps: it would only
   produce more for them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ..config.limits import Limits, limit_reached
from ..errors import CloseCode, CloseStatus
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, leader_only, requires
from .connection import BROKEN, BUFFERED, OPEN, SENT, Connection, SendResult

__all__ = ["BroadcastShard", "Broadcasts"]

_BATCH = 65536
"""Bytes that are sent to a client at once, or one frame."""

_DROPPED = -1
"""The position of a client that has missed a frame. Nothing of the host is sent to it any more."""

_Report = Callable[[Connection, SendResult], None]


class _Batch(NamedTuple):
    """Frames to send, and the number of the last one."""

    data: bytes
    after: int


class Broadcasts:
    """The log of what was broadcast.

    Args:
        limits: the bound of the log.
        clients: the connections that were upgraded, by number. The leader changes it.
        wakes: of the threads that deliver, one for each shard.
        report: tells the leader that a socket accepted only a part, or failed.
        close: starts the close handshake with a client.

    Attributes:
        head: the number of the newest frame.
        shards: what the threads step.
    """

    def __init__(
        self,
        limits: Limits,
        clients: Mapping[int, Connection],
        wakes: Sequence[WakeFlag],
        report: _Report,
        close: Callable[[Connection, CloseStatus], None],
    ) -> None:
        self._limit = limits.connections.outbox
        self._fell_behind = CloseStatus(CloseCode.FELL_BEHIND, f"past the {limit_reached(limits, 'outbox')}")
        self._clients = clients
        self._report = report
        self._close = close
        self._lock = threading.Lock()  # guards the three below; taken inside a connection's lock
        self._frames: deque[bytes] = deque()
        self._size = 0
        self.head = 0
        self.shards = [BroadcastShard(self, index, len(wakes), wake) for index, wake in enumerate(wakes)]

    @any_thread
    def append(self, data: bytes) -> int:
        """Add whole frames, to be sent to all clients. Return how many clients are open."""
        passed = min(shard.passed for shard in self.shards)
        with self._lock:
            self._frames.append(data)
            self._size += len(data)
            self.head += 1
            while self._size > self._limit and self.head - len(self._frames) < passed:
                self._size -= len(self._frames.popleft())
            is_late = self._size > self._limit
        for shard in self.shards:
            shard.wake.set()
            if is_late:  # invariant 4
                with shard.step_lock:
                    shard.step()
        return sum(connection.state is OPEN for connection in list(self._clients.values()))

    @any_thread
    def deliver(self, connection: Connection) -> bool:
        """Send a client all that is outstanding, before something else is sent to it (invariant 2).

        Returns:
            Whether it has missed nothing. Otherwise it is about to be closed.
        """
        if connection.broadcast_at == self.head:
            return True
        if connection.broadcast_at == _DROPPED:
            return False
        result = SENT
        with connection.lock:
            batch = self.batch(connection.broadcast_at, self._limit + _BATCH)
            if batch is not None and batch.data and connection.state is OPEN:
                connection.broadcast_at = batch.after
                result = connection.write(batch.data)
        if result in (BUFFERED, BROKEN):
            self._report(connection, result)
        if batch is None:
            self.drop([connection])
        return batch is not None

    @any_thread
    def batch(self, position: int, size: int = _BATCH) -> _Batch | None:
        """Return the frames after a position, about `size` bytes of them at most. None if the first one is gone."""
        with self._lock:
            skipped = position - (self.head - len(self._frames))
            if skipped < 0:
                return None
            frames = list(islice(self._frames, skipped, None))
        found, total = 0, 0
        for frame in frames:
            total += len(frame)
            if found and total > size:
                break
            found += 1
        return _Batch(b"".join(frames[:found]), position + found)

    @leader_only
    def on_writable(self, connection: Connection) -> None:
        """Go on with a client that accepts data again."""
        if connection.broadcast_at not in (self.head, _DROPPED):
            shard = self.shards[connection.id % len(self.shards)]
            shard.writable.append(connection)
            shard.wake.set()

    @any_thread
    def behind(self, index: int) -> list[Connection]:
        """Return the open connections of a shard that have not got all frames."""
        count, head = len(self.shards), self.head
        if count == 1:
            return [one for one in list(self._clients.values()) if one.broadcast_at not in (head, _DROPPED)]
        return [
            connection
            for connection in list(self._clients.values())
            if connection.broadcast_at not in (head, _DROPPED) and connection.id % count == index
        ]

    @any_thread
    def send(self, batch: _Batch, before: int, connections: Sequence[Connection]) -> bool:
        """Send a batch to those that are at a position. Return whether anyone could take it.

        Args:
            batch: the frames.
            before: the position that they follow.
            connections: the clients. One that has gone on meanwhile is left out, as is one that does not read.
        """
        data, after = batch
        size, anyone = len(data), False
        for connection in connections:
            with connection.lock:
                if connection.broadcast_at != before or connection.state is not OPEN:
                    continue
                if connection.write_buffer is not None:
                    continue  # `on_writable` follows
                connection.broadcast_at, anyone = after, True
                try:  # as `send_to_many` does it
                    accepted = connection.sock.send(data)
                except OSError:
                    accepted = 0  # `write` meets the error again and knows what it means
                connection.bytes_sent += accepted
                if accepted == size:
                    continue
                result = connection.write(memoryview(data)[accepted:])
            if result is not SENT:
                self._report(connection, result)
        return anyone

    @any_thread
    def drop(self, connections: Sequence[Connection]) -> None:
        """Close those whose next frame is gone (invariant 3)."""
        for connection in connections:
            with connection.lock:
                is_new = connection.state is OPEN and connection.broadcast_at != _DROPPED
                connection.broadcast_at = _DROPPED
            if is_new:
                self._close(connection, self._fell_behind)


class BroadcastShard:
    """Some of the clients. One thread at a time steps it.

    Args:
        log: what is sent.
        index, count: it has the connections whose number, divided by `count`, leaves `index`.
        wake: set when there is something to do.

    Attributes:
        step_lock: held by the thread that steps it.
        passed: up to this frame all clients have been served, or do not read.
        writable: clients that accept data again.
    """

    def __init__(self, log: Broadcasts, index: int, count: int, wake: WakeFlag) -> None:
        self.wake = wake
        self.step_lock = threading.Lock()  # guards the rest
        self.passed = 0
        self.writable: deque[Connection] = deque()
        self._log = log
        self._index = index

    @requires("step_lock")
    def step(self) -> bool:
        """Send one batch to each client that is behind. Return whether there is more to do."""
        for _ in range(len(self.writable)):
            self._serve([self.writable.popleft()])
        head = self._log.head
        if self.passed != head:
            self.passed = min(head, self._serve(self._log.behind(self._index)))
        return self.passed != self._log.head or bool(self.writable)

    def _serve(self, connections: Sequence[Connection]) -> int:
        """Send a batch to each. Return the number of a frame that all have got who could take one."""
        groups: dict[int, list[Connection]] = {}
        for connection in connections:
            groups.setdefault(connection.broadcast_at, []).append(connection)
        reached = self._log.head
        for position, members in groups.items():
            batch = self._log.batch(position)
            if batch is None:
                self._log.drop(members)
            elif batch.data and self._log.send(batch, position, members):
                reached = min(reached, batch.after)
        return reached
