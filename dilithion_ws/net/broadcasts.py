"""Messages of the host to all clients, sent by the threads that deliver events.

`Broadcasts.append` puts a frame into a log that all clients share, and a client is a position in it. So a burst leaves as
one batch, made once for all clients that are at the same position, and a client that does not read costs one batch.

Invariants
1. `Connection.broadcast_at`, the number of the last frame that was sent to a client, is guarded by the connection's
   lock. It is read, the next frames are written, and it is raised under that lock. So the order is right whichever thread
   sends.
2. A client that is behind the head, and has nothing in its write buffer, is looked at again: since a frame was appended
   after its shard last looked at all clients (`seen`), or since it is in `writable`. A client with something in its
   write buffer comes back by `on_writable`. One that has just been opened is among the clients before it is OPEN, and is
   at the head then.
3. `deliver` sends what is outstanding before an answer, a message of the host to one client, or a close by the host. Only
   events and pings may overtake a broadcast.
4. A client whose next frame has left the log is closed with 4108: it knows then that it has missed something. Nothing of
   the host is sent to it any more.
5. The log holds `outbox` bytes, and what clients that read have not got yet. If that is more, the host's thread helps to
   send it: it would only produce more.

Locks are taken in this order: `step_lock`, a connection's lock, the log's lock.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ..config.limits import Limits, limit_reached
from ..errors import CloseCode, CloseStatus
from ..util.sync import WakeFlag
from ..util.thread_contracts import any_thread, requires
from .connection import OPEN, SENT, Connection, SendResult
from .mailbox import Mailbox

__all__ = ["BroadcastShard", "Broadcasts"]

_BATCH = 65536
"""Bytes that are sent to a client at once, or one frame."""

_DROPPED = -1
"""The position of a client that has missed a frame (invariant 4)."""


class _Batch(NamedTuple):
    """Frames to send, and the number of the last one."""

    data: bytes
    after: int


class Broadcasts:
    """The log of what was broadcast.

    Args:
        limits: the bound of the log.
        mailbox: commands to the leader.
        clients: the connections that were upgraded, by number. The leader changes it.
        wakes: of the threads that deliver, one for each shard.

    Attributes:
        head: the number of the newest frame.
        oldest: how many frames have left the log.
        fell_behind: how a client is closed that has missed a frame.
        shards: what the threads step.
    """

    def __init__(
        self, limits: Limits, mailbox: Mailbox, clients: Mapping[int, Connection], wakes: Sequence[WakeFlag]
    ) -> None:
        self._limit = limits.connections.outbox
        self._mailbox = mailbox
        self._clients = clients
        self._lock = threading.Lock()  # guards the four below
        self._frames: deque[bytes] = deque()
        self._size = 0
        self.head = 0
        self.oldest = 0
        self.fell_behind = CloseStatus(CloseCode.FELL_BEHIND, f"past the {limit_reached(limits, 'outbox')}")
        self.shards = [BroadcastShard(self, index, wake) for index, wake in enumerate(wakes)]

    @any_thread
    def append(self, data: bytes) -> int:
        """Add whole frames, to be sent to all clients. Return how many clients are open."""
        with self._lock:
            self._frames.append(data)
            self._size += len(data)
            self.head += 1
        is_late = self._trim()
        for shard in self.shards:
            shard.wake.set()
            if is_late:  # invariant 5
                with shard.step_lock:
                    while shard.step():
                        pass
        if is_late:
            self._trim()
        return sum(connection.state is OPEN for connection in list(self._clients.values()))

    def _trim(self) -> bool:
        """Forget what all clients have got that read. Return whether more than the limit is left."""
        with self._lock:
            passed = min(shard.passed for shard in self.shards)
            while self._size > self._limit and self.oldest < passed:
                self._size -= len(self._frames.popleft())
                self.oldest += 1
            return self._size > self._limit

    @any_thread
    def deliver(self, connection: Connection) -> bool:
        """Send a client all that is outstanding, before something else is sent to it (invariant 3).

        Returns:
            Whether it has missed nothing. Otherwise it is about to be closed.
        """
        if connection.broadcast_at == self.head:
            return True
        result = SENT
        with connection.lock:
            if connection.state is not OPEN or connection.broadcast_at == _DROPPED:
                return connection.broadcast_at != _DROPPED
            batch = self.batch(connection.broadcast_at, sys.maxsize)
            if batch is None:
                connection.broadcast_at = _DROPPED
            elif batch.data:
                connection.broadcast_at = batch.after
                result = connection.write(batch.data)
        if batch is None:
            self._close(connection)
        elif result is not SENT:
            self._report(connection, result)
        return batch is not None

    def _report(self, connection: Connection, result: SendResult) -> None:
        """Have the leader handle that a socket accepted only a part, or failed."""
        self._mailbox.post(lambda leader: leader.messages.after_send(connection, result))

    def _close(self, connection: Connection) -> None:
        self._mailbox.post(lambda leader: leader.closer.start_close(connection, self.fell_behind))

    @any_thread
    def batch(self, position: int, size: int) -> _Batch | None:
        """Return the frames after a position, about `size` bytes of them at most. None if the first one is gone."""
        with self._lock:
            if position < self.oldest:
                return None
            frames = list(islice(self._frames, position - self.oldest, None))
        found, total = 0, 0
        for frame in frames:
            total += len(frame)
            if found and total > size:
                break
            found += 1
        return _Batch(b"".join(frames[:found]), position + found)

    @any_thread
    def on_writable(self, connection: Connection) -> None:
        """Go on with a client that accepts data again (invariant 2)."""
        if connection.broadcast_at not in (self.head, _DROPPED):
            shard = self.shards[connection.id % len(self.shards)]
            shard.writable.append(connection)
            shard.wake.set()

    @any_thread
    def clients_of(self, index: int) -> list[Connection]:
        """Return the clients of a shard."""
        count, found = len(self.shards), list(self._clients.values())
        return found if count == 1 else [one for one in found if one.id % count == index]

    @any_thread
    def send(self, connections: Iterable[Connection]) -> list[Connection]:
        """Send one batch to each client that is behind and reads. Return those that are behind still, and read."""
        batches: dict[int, _Batch | None] = {}
        again: list[Connection] = []
        head, oldest = self.head, self.oldest
        for connection in connections:
            at = connection.broadcast_at
            if at in (head, _DROPPED) or (connection.write_buffer is not None and at >= oldest):
                continue  # nothing to do, or `on_writable` follows
            with connection.lock:
                at = connection.broadcast_at
                if connection.state is not OPEN or at == _DROPPED:
                    continue
                if at not in batches:
                    batches[at] = self.batch(at, _BATCH)
                batch, result = batches[at], SENT
                if batch is None:
                    connection.broadcast_at = _DROPPED
                elif connection.write_buffer is None and batch.data:
                    data, after = batch
                    connection.broadcast_at = after
                    try:  # as `send_to_many` does it
                        accepted = connection.sock.send(data)
                    except OSError:
                        accepted = 0  # `write` meets the error again and knows what it means
                    connection.bytes_sent += accepted
                    if accepted == len(data):
                        if after != self.head:
                            again.append(connection)
                        continue
                    result = connection.write(memoryview(data)[accepted:])
            if batch is None:
                self._close(connection)
            elif result is not SENT:
                self._report(connection, result)
        return again


class BroadcastShard:
    """Some of the clients: those whose number, divided by the number of shards, leaves `index`.

    Args:
        log: what is sent.
        index: its number among the shards.
        wake: set when there is something to do.

    Attributes:
        step_lock: held by the thread that steps it; guards `seen` and `passed`.
        seen: the head when it last looked at all clients.
        passed: what all clients have got that read.
        writable: clients to look at; any thread may add one.
    """

    def __init__(self, log: Broadcasts, index: int, wake: WakeFlag) -> None:
        self.wake = wake
        self.step_lock = threading.Lock()
        self.seen = 0
        self.passed = 0
        self.writable: deque[Connection] = deque()
        self._log = log
        self._index = index

    @requires("step_lock")
    def step(self) -> bool:
        """Send one batch to each client that is behind and reads. Return whether there is more to do."""
        waiting = [self.writable.popleft() for _ in range(len(self.writable))]
        if self.seen != self._log.head:
            self.seen = self._log.head  # before the clients are looked at: a later frame has them looked at again
            waiting = self._log.clients_of(self._index)
        again = self._log.send(waiting)
        self.writable.extend(again)
        self.passed = min([self.seen, *(connection.broadcast_at for connection in again)])
        return bool(self.writable) or self.seen != self._log.head
