"""One trial for every client: whatever happens to its connection and to the server, its view is the chain at last.

The server has the node in its own process, or is a gateway; then the connections to the node are cut as well.

A client program prints one line of JSON for each event of `blocks`, from the first block on: kind, height and hash, or
an error. Between it and the server is a proxy that cuts connections in the middle of a frame, or forwards nothing for a
while.
The server is stopped and started again, which makes new logs, and the chain grows and reorganises all the time.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from dilithion_ws import Config, Limits, WebSocketServer
from dilithion_ws.devnode import DevNode
from dilithion_ws.gateway import Gateway, GatewayConfig

from . import free_port, wait_for
from .devnode import serve_devnode

__all__ = ["CUTS", "ENDS", "ChainGateway", "ChainServer", "CuttingProxy", "Lines", "View", "try_out"]

CUTS = int(os.environ.get("CONFORMANCE_CUTS", "60"))
"""How often a connection is broken. A thousand takes a minute for each client."""

_LINGER = struct.pack("ii", 1, 0)


class _Connection:
    """Two sockets that are forwarded to each other, and closed when both directions have ended."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        self._lock = threading.Lock()  # guards the count, and the sockets against being closed meanwhile
        self._running = 2

    def reset(self) -> None:
        """Have both directions end, and both peers get a reset."""
        with self._lock:
            for sock in self._sockets if self._running == 2 else ():
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
                    sock.shutdown(socket.SHUT_RDWR)

    def ended(self) -> bool:
        """Record that one direction has ended. Return whether both have; then the sockets are closed."""
        with self._lock:
            self._running -= 1
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                if not self._running:
                    sock.close()
            return not self._running


class CuttingProxy:
    """Forwards TCP connections to a port, and breaks them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()  # guards `_open`
        self._open: set[_Connection] = set()
        self._flows = threading.Event()
        self._flows.set()
        self.connections = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.cut()
        wait_for(lambda: not self._open)

    def cut(self) -> None:
        """Reset all connections."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.reset()

    @contextlib.contextmanager
    def blackhole(self) -> Iterator[None]:
        """Forward nothing meanwhile, and let no connection end."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self.connections += 1
            connection = _Connection(client, server)
            with self._lock:
                self._open.add(connection)
            for here, there in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(connection, here, there), daemon=True).start()

    def _forward(self, connection: _Connection, here: socket.socket, there: socket.socket) -> None:
        pieces = random.Random(self.connections)
        try:
            while data := here.recv(4096):
                self._flows.wait()
                cut = pieces.randrange(len(data) + 1)
                there.sendall(data[:cut])
                there.sendall(data[cut:])
        except OSError:
            pass
        if connection.ended():
            with self._lock:
                self._open.discard(connection)


class ChainServer:
    """A server with a development node that lives on while the server is away."""

    def __init__(self) -> None:
        self.node = DevNode(seed=9, mining=True)
        self.port = free_port()
        self._server: WebSocketServer | None = None

    def start(self) -> None:
        """Start a server with empty logs."""
        limits = Limits.from_names(history_entries=20, history_lag=0, ping_interval=0.5, pong_timeout=1.0)
        self._server = serve_devnode(self.node, port=self.port, limits=limits)

    def stop(self) -> None:
        """Stop it. What the node does meanwhile is published nowhere."""
        assert self._server is not None
        self.node.publish = lambda topic, event: None
        self._server.stop(0.5)
        self._server = None

    def close(self) -> None:
        """End everything."""
        self.stop()

    def disturb(self) -> None:
        """Break something that the client does not see."""

    def new_epoch(self) -> None:
        """Start a new epoch of the topic."""
        assert self._server is not None
        self._server.events.start_new_epoch("blocks")


class ChainGateway(ChainServer):
    """A gateway, whose node is a server of its own. Between them is a proxy that cuts."""

    def __init__(self) -> None:
        super().__init__()
        self._node_server = serve_devnode(self.node, port=free_port())
        self._link = CuttingProxy(self._node_server.port)

    def start(self) -> None:
        limits = Limits.from_names(history_entries=20, history_lag=0, ping_interval=0.5, pong_timeout=1.0)
        config = GatewayConfig(upstream=f"http://127.0.0.1:{self._link.port}", poll_interval=0.02)
        self._gateway = Gateway(config, Config(port=self.port, limits=limits)).start()
        self._server = self._gateway.server

    def stop(self) -> None:
        self._gateway.stop(0.5)
        self._server = None

    def close(self) -> None:
        self.stop()
        self._link.close()
        self._node_server.stop(0.5)

    def disturb(self) -> None:
        self._link.cut()


ENDS: dict[str, type[ChainServer]] = {"server": ChainServer, "gateway": ChainGateway}
"""What a client is connected to, by name."""


class Lines(Protocol):
    """What a client has printed: a process, a page, or one in this process."""

    def take(self) -> list[str]:
        """Return the new lines."""


class View:
    """The chain as a client has been sent it. Each event must fit what came before."""

    def __init__(self, server: ChainServer) -> None:
        first = server.node.chain.active[0]
        self.tip = (-1, first.header.previous)
        self.events = 0

    def apply(self, line: str) -> None:
        """Apply a line."""
        event = json.loads(line)
        assert "error" not in event, event
        here, before = (event["height"], event["hash"]), (event["height"] - 1, event["previousblockhash"])
        connects = event["kind"] == "connected"
        assert self.tip == (before if connects else here), f"{line} does not continue {self.tip}"
        self.tip = here if connects else before
        self.events += 1


def try_out(server: ChainServer, proxy: CuttingProxy, lines: Lines, cuts: int, seed: int = 1) -> View:
    """Cut, stop, freeze and reorganise, and return the view when it is the chain."""
    view, chance = View(server), random.Random(seed)
    for _ in range(cuts):
        for _ in range(chance.randrange(4)):
            server.node.step()
        if chance.random() < 0.2:
            server.disturb()
        what = chance.random()
        if what < 0.8:
            time.sleep(chance.random() * 0.02)  # the moment of the cut is what is tried here
            proxy.cut()
        elif what < 0.9:
            server.stop()
            server.node.step()
            server.start()
        elif what < 0.97:
            server.new_epoch()
            server.node.step()
        else:
            with proxy.blackhole():
                time.sleep(chance.random())
        for line in lines.take():
            view.apply(line)
    server.node.generate(1, server.node.others.addresses[0])

    def is_there() -> bool:
        for line in lines.take():
            view.apply(line)
        tip = server.node.chain.tip
        return view.tip == (tip.height, tip.hash)

    wait_for(is_there, 30, "the client's view to be the chain")
    return view
