"""When to look at the node: as soon as it says that something has happened, by ZeroMQ or by a call that waits.

What it says is a hint and no more: what has happened is read by RPC, so that a notification which was lost, repeated or
out of order costs a look, and never a block.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from .. import ConfigError, JsonRpcCode, RpcError
from .node_client import NodeClient
from .poll_schedule import PollSchedule

__all__ = ["LongPoll", "ZmqSequences", "ZmqListener"]

logger = logging.getLogger("dilithion_ws.gateway")

_WAIT_MS = 10_000
_GRACE = 10.0
"""Seconds beyond that after which the node has forgotten the call."""
_RETRY_SECONDS = 1.0
_SHORTEST = 0.05
"""Seconds from one call that waits to the next, at least."""
_RECEIVE_MS = 200
_TOPICS = ("hashblock", "rawtx", "hashtx", "sequence")
_WRAP = 2**32


class ZmqSequences:
    """The numbers that a publisher counts its messages with, topic by topic. No I/O."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def missed(self, topic: str, number: int) -> int:
        """How many messages are missing in front of this one: 0 where it is the next, or the first that is seen.

        A number that has gone back means that the publisher was started again: then nobody knows, and it counts as one.
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
        pace: told while the node is listened to.

    Attributes:
        missed: messages that were lost on the way, as far as their numbers tell.
    """

    def __init__(self, addresses: tuple[str, ...], hint: Callable[[], None], pace: PollSchedule) -> None:
        try:
            import zmq
        except ImportError:
            raise ConfigError("--zmq needs the extra zmq (pip install dilithion-ws[zmq])") from None
        self._zmq = zmq
        self._addresses = addresses
        self._hint = hint
        self._pace = pace
        self._stopped = threading.Event()
        self.missed = 0
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-zmq", daemon=True)

    def start(self) -> None:
        """Starts to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Ends listening."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(5.0)

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
            self._pace.told = True
            while not self._stopped.is_set():
                ready = dict(poller.poll(_RECEIVE_MS))
                for at, socket in enumerate(sockets):
                    if socket in ready:
                        self._receive(socket.recv_multipart(), numbers[at])
        except Exception:
            logger.exception("listening to the node's ZeroMQ failed; what happens is found by polling from now on")
        finally:
            self._pace.told = False
            context.destroy(linger=0)

    def _receive(self, parts: list[Any], numbers: ZmqSequences) -> None:
        if len(parts) >= 3 and len(parts[2]) == 4:
            missed = numbers.missed(parts[0].decode("ascii", "replace"), int.from_bytes(parts[2], "little"))
            if missed:
                self.missed += missed
                logger.warning("the node's ZeroMQ has lost %d messages or was started again; looking by RPC", missed)
        self._hint()


class LongPoll:
    """Waits in the node for the next block; for nodes that go on serving others meanwhile.

    Args:
        node: the node.
        wanted: whether to wait at all now.
        hint: called when there is a block.
    """

    def __init__(self, node: NodeClient, wanted: Callable[[], bool], hint: Callable[[], None]) -> None:
        self._node = node
        self._wanted = wanted
        self._hint = hint
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dilithion-ws-gateway-longpoll", daemon=True)

    def start(self) -> None:
        """Starts to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Ends waiting; a call that is with the node is left to its own end."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            dialect = self._node.dialect
            if dialect is not None and not dialect.can_wait:
                return
            if dialect is None or not self._wanted():
                self._stopped.wait(_RETRY_SECONDS)
                continue
            started = time.monotonic()
            try:
                self._node.call("waitfornewblock", b"[%d]" % _WAIT_MS, _WAIT_MS / 1000 + _GRACE)
                self._hint()
                self._stopped.wait(_SHORTEST - (time.monotonic() - started))  # where it does not wait after all
            except RpcError as error:
                if error.code == JsonRpcCode.METHOD_NOT_FOUND:
                    logger.info("the node can't wait for blocks: it is polled")
                    return
                self._stopped.wait(_RETRY_SECONDS)
            except Exception:
                logger.exception("waiting for the next block failed; going on")
                self._stopped.wait(_RETRY_SECONDS)
