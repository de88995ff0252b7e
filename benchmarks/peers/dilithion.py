"""This server as a user would run it: users, permissions, limits, pings, all settings as they are by default.

The words after the port: `open` for no users, `deflate`, `ticks=RATE` for the time as an event, so many a second,
`store=URL` for the event store, and `CERTIFICATE,KEY` for TLS.
"""

import sys
import threading
import time

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

port = int(sys.argv[1])
limits = {"connections": 20_000}
rate = 0.0
options = {"user": "bench", "password": "bench-password"}
for word in sys.argv[2:]:
    if word == "deflate":
        options["deflate"] = True
    elif word == "open":
        del options["user"], options["password"]
    elif word.startswith("ticks="):
        rate = float(word.removeprefix("ticks="))
    elif word.startswith("store="):
        options["event_store"] = word.removeprefix("store=")
    else:
        options["certificate"], options["private_key"] = word.split(",")

rpc = RpcTable()
server = WebSocketServer(rpc, Config(port=port, limits=Limits.from_names(**limits), **options))
server.topic("ticks", permission="READ_BLOCKCHAIN")


@rpc.method
def getblockcount() -> int:
    return 840_000


@rpc.method
def echo(text: str) -> str:
    return text


@rpc.method
def wait() -> bool:
    time.sleep(0.02)
    return True


@rpc.method
def publish(count: int, size: int) -> int:
    for _ in range(count):
        server.publish("ticks", "x" * size)
    return count


@rpc.method
def broadcast(count: int, size: int) -> int:
    for _ in range(count):
        server.broadcast("x" * size)
    return count


def tick() -> None:
    due = time.monotonic()
    while not stopping.wait(max(0.0, due - time.monotonic())):
        server.publish("ticks", time.monotonic())
        due += 1 / rate


stopping = threading.Event()
server.start()
ticker = threading.Thread(target=tick)
if rate:
    ticker.start()
sys.stdin.read()
stopping.set()
if rate:
    ticker.join()
server.stop()
