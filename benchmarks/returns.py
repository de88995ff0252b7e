"""Clients that come back at once and resume from a block, and what that costs those who are live.

    python -m benchmarks.returns [--clients 50] [--behind 10000]

The server publishes a tick with the time every 5 ms. A live client of a process of its own measures how long each tick
takes, first while nothing else happens, then while the others catch up. The host counts how often its chain is read.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

_BLOCKS = 50_000
_TICK = 0.005
_CALM = 3.0
_TIMEOUT = 120.0
_HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def _block(height: int) -> dict[str, Any]:
    hashes = {"hash": f"{height:064x}", "previousblockhash": f"{height - 1:064x}"}
    return {"height": height, **hashes, "time": 1_737_158_400 + height, "tx_count": 1}


def _frame(message: dict[str, Any]) -> bytes:
    payload = json.dumps(message).encode()
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + payload


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(_HANDSHAKE.format(port=port).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    return client


def serve() -> None:
    """Run the server until standard input ends."""
    reads = 0
    rpc = RpcTable()

    def read(height: int, count: int) -> list[dict[str, Any]]:
        nonlocal reads
        reads += 1
        return [_block(one) for one in range(height, min(height + count, _BLOCKS))]

    rpc.register("reads", lambda: reads)
    server = WebSocketServer(rpc, Config(limits=Limits.from_names(connections=20_000)))
    server.history("blocks", read)
    server.topic("ticks", permission="READ_BLOCKCHAIN", schema=float)
    server.start()
    server.publish("blocks", {**_block(_BLOCKS - 1), "kind": "connected"})
    stopping = threading.Event()

    def tick() -> None:
        while not stopping.wait(_TICK):
            server.publish("ticks", time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    print(server.port, flush=True)
    sys.stdin.read()
    print(reads, flush=True)
    stopping.set()
    thread.join()
    server.stop(1.0)


def listen(port: int) -> None:
    """Print the p50, p95 and longest delay in milliseconds of the ticks since the last line of input, for each line."""
    client = _connect(port)
    client.sendall(_frame({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": ["ticks"]}))
    delays: list[float] = []

    def receive() -> None:
        rest = b""
        while data := client.recv(65536):
            now = time.monotonic()
            *messages, rest = (rest + data).split(b'"result":')
            for one in [*messages[1:], rest]:
                number = one.split(b"}", 1)[0]
                if b"}" in one and number[:1].isdigit():
                    delays.append(now - float(number))
            rest = b'"result":' + rest if b"}" not in rest else b""

    threading.Thread(target=receive, daemon=True).start()
    for _ in sys.stdin:
        found = sorted(delays)
        delays.clear()
        picked = [found[int(len(found) * part)] for part in (0.5, 0.95)] + found[-1:] if found else [0.0] * 3
        print(*(f"{1000 * one:.2f}" for one in picked), flush=True)


def _come_back(port: int, clients: int, behind: int) -> float:
    """Connect, resume, and read to the tip, all clients at once. Return the seconds that took."""
    started = time.monotonic()
    tip = f"{_BLOCKS - 1:064x}".encode()
    selector = selectors.DefaultSelector()
    open_: dict[socket.socket, bytes] = {}
    for number in range(clients):
        client = _connect(port)
        height = _BLOCKS - 1 - behind + number % 50
        since = {"height": height, "hash": f"{height:064x}"}
        params = {"topic": "blocks", "since": since}
        client.sendall(_frame({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}))
        client.setblocking(False)
        open_[client] = b""
        selector.register(client, selectors.EVENT_READ)
    kept = list(open_)
    while open_:
        if time.monotonic() - started > _TIMEOUT:
            raise SystemExit(f"{len(open_)} clients did not reach the tip in {_TIMEOUT:g} s")
        for key, _ in selector.select(1.0):
            client: Any = key.fileobj
            data = open_[client] + client.recv(1 << 18)
            if b'"hash":"' + tip in data:
                del open_[client]
                selector.unregister(client)
            else:
                open_[client] = data[-200:]
    seconds = time.monotonic() - started
    for client in kept:
        client.close()
    return seconds


def main() -> None:
    """Run the server and the live client in processes of their own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--behind", type=int, default=10_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--listen", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.serve:
        serve()
        return
    if options.listen:
        listen(options.listen)
        return
    command = [sys.executable, "-m", "benchmarks.returns"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ}
    with subprocess.Popen([*command, "--serve"], **pipes) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with subprocess.Popen([*command, "--listen", str(port)], **pipes) as live:
            assert live.stdin is not None
            assert live.stdout is not None
            rows = []
            for what in ("calm", "catching up"):
                live.stdin.write("\n")
                live.stdin.flush()
                live.stdout.readline()
                if what == "calm":
                    seconds = _CALM
                    time.sleep(_CALM)
                else:
                    seconds = _come_back(port, options.clients, options.behind)
                live.stdin.write("\n")
                live.stdin.flush()
                rows.append((what, f"{seconds:.2f}", *live.stdout.readline().split()))
            live.stdin.close()
        assert server.stdin is not None
        server.stdin.close()
        reads = int(server.stdout.readline())
    print("| clients | seconds | live p50 ms | p95 ms | worst ms |\n|---|---:|---:|---:|---:|")
    for row in rows:
        print("|", " | ".join(row), "|")
    events = options.clients * options.behind
    print(
        f"\n{options.clients} clients, {options.behind} blocks each: {events} events; the host was read {reads} times"
    )


if __name__ == "__main__":
    main()
