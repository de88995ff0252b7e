"""A node in small that the scenarios do harm to: it publishes, and does what lines of standard input say.

    python -m benchmarks.chaos.host '{"port": 0, "event_store": "memory", "life": "1", "rate": 100, ...}'

All other members of the JSON are settings of the server. With LISTEN_FDS it serves the socket that it is given.

    rate N      publish N events per second from now on
    burst N     publish N events at once
    hold S      hold the interpreter's lock for S seconds
    hiccup S    have the next call of `quick` block for S seconds
    fork        fork a child, which publishes, and exits
    status      print what the server knows about itself, as one line of JSON

Other lines are ignored. With the end of input it stops in order.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from typing import Any

from dilithion_ws import Config, DilithionWsError, Limits, RpcTable, WebSocketServer, sd_listen_sockets
from dilithion_ws.config.fields import settings_of

_STEP = 0.01


class Host:
    """The server, and the thread that publishes.

    Args:
        settings: see above.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.life = settings.pop("life", "1")
        self.rate = float(settings.pop("rate", 0))
        self.published = 0
        self.hiccup = 0.0
        names = {setting.name for setting in settings_of(Limits)}
        limits = Limits.from_names(**{name: value for name, value in settings.items() if name in names})
        config = {name: value for name, value in settings.items() if name not in names}
        rpc = RpcTable()
        rpc.register("quick", self.quick)
        rpc.register("large", lambda size: "x" * size)
        sockets = sd_listen_sockets()
        self.server = WebSocketServer(rpc, Config(**config, limits=limits), sockets=sockets)
        self.server.topic("t", permission="READ_BLOCKCHAIN")
        self.stopping = threading.Event()

    def quick(self) -> int:
        """Return the number of published events, as a rule at once."""
        seconds, self.hiccup = self.hiccup, 0.0
        if seconds:
            time.sleep(seconds)
        return self.published

    def publish(self) -> None:
        """Publish one event."""
        self.published += 1
        self.server.publish("t", {"life": self.life, "n": self.published, "pad": "x" * 200})

    def publish_at_rate(self) -> None:
        """Publish as many events per second as asked for."""
        due = time.monotonic()
        while not self.stopping.wait(_STEP):
            now = time.monotonic()
            if not self.rate or now - due > 1:
                due = now
            while self.rate and due < now:
                self.publish()
                due += 1 / self.rate

    def obey(self, line: str) -> None:
        """Do what a line says."""
        command, _, value = line.strip().partition(" ")
        if command == "rate":
            self.rate = float(value)
        elif command == "burst":
            for _ in range(int(value)):
                self.publish()
        elif command == "hold":
            ctypes.PyDLL(None).usleep(int(float(value) * 1e6))  # PyDLL keeps the lock
        elif command == "hiccup":
            self.hiccup = float(value)
        elif command == "fork":
            self.fork()
        elif command == "status":
            store = self.server.events.store_status
            head = self.server.events.topic("t").log.position
            print(
                json.dumps(
                    {
                        "published": self.published,
                        "seq": head.seq,
                        "epoch": head.epoch,
                        "store": None if store is None else store._asdict(),
                    }
                ),
                flush=True,
            )

    def fork(self) -> None:
        """Fork a child that does what children do by mistake."""
        child = os.fork()
        if child == 0:
            try:
                self.server.publish("t", {"life": "child"})
            except DilithionWsError:
                os._exit(3)  # as it should be
            os._exit(4)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"child": os.waitstatus_to_exitcode(status)}), flush=True)


def main() -> None:
    """Serve until standard input ends."""
    host = Host(json.loads(sys.argv[1]))
    host.server.start()
    publisher = threading.Thread(target=host.publish_at_rate)
    publisher.start()
    print(host.server.port, flush=True)
    for line in sys.stdin:
        host.obey(line)
    host.stopping.set()
    publisher.join()
    host.server.stop(10.0)


if __name__ == "__main__":
    main()
