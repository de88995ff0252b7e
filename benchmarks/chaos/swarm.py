"""Many subscribers in one process, which check every event that they get.

    python -m benchmarks.chaos.swarm '{"port": 8333, "topic": "t", "count": 100, "pause": 0.2}'

`login` in the JSON is a user and a password with a colon between them, and `place` an epoch and a seq to begin at.

Each subscriber is a raw WebSocket, independent of this project's clients. It comes back after a lost connection and
resumes at its place. A fault is an event that is missing, repeated, out of order, or other than another subscriber's at
the same position, unless the server has said so: by an error that ends the subscription, or by `recovered: false`.

Each line of standard input is answered by a line of JSON: `events` by the events, in order, and any other line by what
was seen so far. With the end of input it ends.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import sys
import time
from collections import Counter
from enum import Enum
from typing import Any

__all__ = ["Report", "Swarm"]

Report = dict[str, Any]

_SILENCE = 30.0
"""Seconds without a byte after which a subscriber sends a ping, and as many again after which it comes back."""
_RECEIVE = 1 << 16
_MOST_FAULTS = 20


class State(Enum):
    """Where a subscriber is."""

    AWAY = "away"
    UPGRADING = "upgrading"
    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"


class Subscriber:
    """One connection, and its place in the log.

    Args:
        swarm: to which it belongs.
        number: among the others.
    """

    def __init__(self, swarm: Swarm, number: int) -> None:
        self.swarm = swarm
        self.number = number
        self.state = State.AWAY
        self.sock: socket.socket | None = None
        self.buffer = b""
        self.place = swarm.place
        self.due = time.monotonic()
        self.heard = 0.0
        self.pinged = False

    def connect(self) -> None:
        """Begin to connect."""
        self.swarm.counts["connections"] += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        result = sock.connect_ex(("127.0.0.1", self.swarm.port))
        self.sock, self.buffer, self.state, self.heard = sock, b"", State.UPGRADING, time.monotonic()
        self.swarm.selector.register(sock, selectors.EVENT_WRITE, self)
        if result not in (0, 115):  # EINPROGRESS
            self.lose("refused")

    def lose(self, why: str) -> None:
        """Note that the connection is over, and come back later."""
        assert self.sock is not None
        self.swarm.selector.unregister(self.sock)
        self.sock.close()
        self.sock, self.state = None, State.AWAY
        self.swarm.counts[why] += 1
        self.due = time.monotonic() + self.swarm.pause * (1 + self.number % 10 / 10)

    def on_writable(self) -> None:
        """Send the upgrade, once the connection is there."""
        assert self.sock is not None
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.lose("refused" if error == 111 else "lost")  # ECONNREFUSED
            return
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(
            f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{self.swarm.login}\r\n".encode()
        )
        if self.sock is not None:
            self.swarm.selector.modify(self.sock, selectors.EVENT_READ, self)

    def send(self, data: bytes) -> None:
        """Send bytes, which are few enough for the socket's buffer."""
        try:
            if self.sock is not None:
                self.sock.sendall(data)
        except OSError:
            self.lose("lost")

    def subscribe(self) -> None:
        """Subscribe from the place that was reached."""
        params: dict[str, Any] = {"topic": self.swarm.topic}
        if self.place is not None:
            params["since"] = {"epoch": self.place[0], "seq": self.place[1]}
        self.state = State.SUBSCRIBING
        self.send(_frame(1, json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 1}).encode()))

    def on_readable(self) -> None:
        """Take what has arrived."""
        assert self.sock is not None
        try:
            data = self.sock.recv(_RECEIVE)
        except OSError:
            data = b""
        if not data:
            self.lose("lost")
            return
        self.heard, self.pinged = time.monotonic(), False
        self.buffer += data
        if self.state is State.UPGRADING:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                self.lose("refused with " + head[9:12].decode())
                return
            self.buffer = rest
            self.subscribe()
        while self.sock is not None and (found := _take_frame(self.buffer)) is not None:
            opcode, payload, size = found
            self.buffer = self.buffer[size:]
            if opcode == 9:
                self.send(_frame(10, payload))
            elif opcode == 8:
                self.lose(f"closed with {int.from_bytes(payload[:2], 'big')}")
            elif opcode in (1, 2):
                self.on_message(payload)

    def on_message(self, payload: bytes) -> None:
        """Take an answer to `subscribe`, an event, or the end of the subscription."""
        known = self.swarm.known.get(payload)  # nearly all get the same bytes, which are read once
        if known is not None:
            self.on_event(*known)
            return
        try:
            message = json.loads(payload)
        except ValueError:
            self.swarm.fault(f"{self.number}: no JSON: {payload[:80]!r}")
            self.lose("lost")
            return
        if message.get("id") == 1:
            self.on_answer(message)
            return
        params = message["params"]
        if "error" in params:
            self.on_end(params["error"])
            return
        self.swarm.learn(payload, params)
        self.on_event(params["epoch"], params["seq"], params["prev"])

    def on_answer(self, message: dict[str, Any]) -> None:
        """Take the answer to `subscribe`."""
        result = message.get("result")
        if result is None:
            self.swarm.counts[f"subscribe refused with {message['error']['code']}"] += 1
            self.lose("lost")
            return
        self.state = State.SUBSCRIBED
        if result.get("recovered") is False:
            self.tell(result["reason"], result.get("next"))
            if "next" in result:
                self.subscribe()
                return
        if self.place is None or result.get("recovered") is False:
            self.place = result["epoch"], result["seq"]

    def on_end(self, error: dict[str, Any]) -> None:
        """Take the error that has ended the subscription."""
        if error["code"] == -32007:
            self.tell(error["data"]["reason"], error["data"].get("next"))
            if "next" not in error["data"]:
                self.place = None
            self.subscribe()
        else:
            self.swarm.counts[f"ended with {error['code']}"] += 1
            self.lose("lost")

    def tell(self, reason: str, following: dict[str, Any] | None) -> None:
        """Note that the server has said that events are gone, or where the log continues without a loss."""
        if following is not None:
            self.swarm.counts["continued in a new epoch"] += 1
            self.place = following["epoch"], following["seq"]
        else:
            self.swarm.counts[f"told: {reason}"] += 1

    def on_event(self, epoch: str, seq: int, prev: int) -> None:
        """Compare the position of an event with the place before it."""
        self.swarm.counts["events"] += 1
        if self.place is not None and (epoch != self.place[0] or seq != self.place[1] + 1 or prev != seq - 1):
            self.swarm.fault(f"{self.number}: {self.place} is followed by {epoch}, {seq} (prev {prev})")
        self.place = epoch, seq


class Swarm:
    """All subscribers.

    Args:
        port: of the server, on loopback.
        topic: what they subscribe to.
        count: how many they are.
        pause: seconds before a subscriber comes back.
        login: user and password.
        place: where they begin.
    """

    def __init__(
        self,
        port: int,
        topic: str = "t",
        count: int = 1,
        pause: float = 0.2,
        login: str = "",
        place: tuple[str, int] | None = None,
    ) -> None:
        self.port, self.topic, self.pause = port, topic, pause
        self.login = f"Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n" if login else ""
        self.place = None if place is None else (place[0], place[1])
        self.selector = selectors.DefaultSelector()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.events: dict[tuple[str, int], str] = {}
        self.known: dict[bytes, tuple[str, int, int]] = {}
        self.subscribers = [Subscriber(self, number) for number in range(count)]

    def fault(self, text: str) -> None:
        """Note a fault."""
        self.counts["faults"] += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)

    def learn(self, payload: bytes, params: dict[str, Any]) -> None:
        """Note an event that is seen for the first time. It must be what others saw at its position."""
        epoch, seq = params["epoch"], params["seq"]
        self.known[payload] = epoch, seq, params["prev"]
        text = json.dumps(params["result"], sort_keys=True)
        if self.events.setdefault((epoch, seq), text) != text:
            self.fault(f"{epoch}, {seq} is {text[:80]}, and {self.events[epoch, seq][:80]} for others")

    def step(self, seconds: float) -> None:
        """Serve the sockets for a moment, and bring back who is away."""
        for key, mask in self.selector.select(seconds):
            if key.data is None:
                continue
            if mask & selectors.EVENT_WRITE:
                key.data.on_writable()
            else:
                key.data.on_readable()
        now = time.monotonic()
        for one in self.subscribers:
            if one.state is State.AWAY:
                if now >= one.due:
                    one.connect()
            elif now - one.heard > 2 * _SILENCE:
                one.lose("silent")
            elif now - one.heard > _SILENCE and not one.pinged and one.state is State.SUBSCRIBED:
                one.pinged = True
                one.send(_frame(9, b""))

    def report(self) -> Report:
        """Return what was seen so far."""
        subscribed = [one for one in self.subscribers if one.state is State.SUBSCRIBED]
        heads = [one.place[1] for one in subscribed if one.place is not None]
        epochs = {one.place[0] for one in subscribed if one.place is not None}
        return {
            **self.counts,
            "subscribed": len(subscribed),
            "epochs": len(epochs),
            "lowest": min(heads, default=0),
            "highest": max(heads, default=0),
            "different events": len(self.events),
            "fault": self.faults,
        }


def _frame(opcode: int, payload: bytes) -> bytes:
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + size + bytes(4) + payload


def _take_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Return opcode, payload and size of the first frame, or None if it is not complete."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start or len(data) < start + size:
        return None
    return data[0] & 15, data[start : start + size], start + size


def main() -> None:
    """Run until standard input ends."""
    swarm = Swarm(**json.loads(sys.argv[1]))
    os.set_blocking(0, False)
    swarm.selector.register(0, selectors.EVENT_READ, None)
    while True:
        swarm.step(0.05)
        try:
            asked = os.read(0, 4096)
        except BlockingIOError:
            continue
        if not asked:
            return
        for line in asked.decode().splitlines():
            answer = (
                [json.loads(text) for _, text in sorted(swarm.events.items())] if line == "events" else swarm.report()
            )
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
