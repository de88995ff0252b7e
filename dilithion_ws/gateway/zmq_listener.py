"""Listen to the node's ZeroMQ publishers, to poll when something has happened.

A notification is only a hint: what has happened is read by RPC. So one that was lost, repeated or out of order costs a
poll, and never a block.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from .. import ConfigError
from ..util.thread_contracts import owner_only
from .poll_schedule import PollSchedule

__all__ = ["ZmqListener", "ZmqSequences"]

logger = logging.getLogger("dilithion_ws.gateway")

_RECEIVE_MS = 200
_TOPICS = ("hashblock", "rawtx", "hashtx", "sequence")
_WRAP = 2**32


class ZmqSequences:
    """The sequence numbers of a publisher's messages, by topic. No I/O."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def missed(self, topic: str, number: int) -> int:
        """Return how many messages are missing before this one: 0 if it is the next, or the first.

        A number that has gone back means that the publisher was restarted; this counts as one missing message.
        """
        expected = self._next.get(topic)
        self._next[topic] = (number + 1) % _WRAP
        if expected is None or number == expected:
            return 0
        return number - expected if number > expected else 1


class ZmqListener:
    """Listens to the node's ZeroMQ publishers (extra `zmq`).

    Args:
        addresses: of the publishers.
        hint: called when something has happened.
        schedule: polls less often while the node sends hints.

    Attributes:
        missed: messages that were lost, as far as their numbers show.
    """

    def __init__(self, addresses: tuple[str, ...], hint: Callable[[], None], schedule: PollSchedule) -> None:
        try:
            import zmq
        except ImportError:
            raise ConfigError("--zmq needs the package pyzmq: pip install pyzmq") from None
        self._zmq = zmq
        self._addresses = addresses
        self._hint = hint
        self._schedule = schedule
        self._stopped = threading.Event()
        self.missed = 0
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-zmq", daemon=True)

    @owner_only
    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @owner_only
    def stop(self, timeout: float) -> None:
        """Stop the thread, and wait `timeout` seconds for it."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        context = self._zmq.Context()
        sockets = [context.socket(self._zmq.SUB) for _ in self._addresses]
        poller = self._zmq.Poller()
        try:
            for socket, address in zip(sockets, self._addresses, strict=True):
                for topic in _TOPICS:
                    socket.setsockopt(self._zmq.SUBSCRIBE, topic.encode())
                socket.connect(address)
                poller.register(socket, self._zmq.POLLIN)
            numbers = [ZmqSequences() for _ in sockets]
            self._schedule.has_hints = True
            while not self._stopped.is_set():
                ready = dict(poller.poll(_RECEIVE_MS))
                for socket, sequences in zip(sockets, numbers, strict=True):
                    if socket in ready:
                        self._receive(socket.recv_multipart(), sequences)
        except Exception:
            logger.exception("listening to the node's ZeroMQ failed; the node is polled from now on")
        finally:
            self._schedule.has_hints = False
            context.destroy(linger=0)

    def _receive(self, parts: list[Any], numbers: ZmqSequences) -> None:
        if len(parts) >= 3 and len(parts[2]) == 4:
            missed = numbers.missed(parts[0].decode("ascii", "replace"), int.from_bytes(parts[2], "little"))
            if missed:
                self.missed += missed
                logger.warning(
                    "%d messages of the node's ZeroMQ were lost, or it was restarted; polling by RPC", missed
                )
        self._hint()
