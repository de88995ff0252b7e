"""The one rule for the leading thread: no step of it costs more with more input, and host code runs in supervised tasks.

A step is a turn of the event loop without the tasks in it, which the watchdog supervises. Its cost is processor time of
the leading thread, so that a busy machine does not count, without a measurement of coverage, in units of this machine's
speed. Whatever clients send, in whatever form and amount, no step takes more than a few milliseconds; the first version
took up to 400.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dilithion_ws import Config, RpcTable, WebSocketServer
from dilithion_ws.net.event_loop import EventLoop
from dilithion_ws.net.loop_ownership import LoopOwnership

from ..support import REQUEST, RawClient, client_frame

MAX_STEP_ADDITIONS = 100_000
"""The cost of a step, in additions by a loop in Python: 5 ms where ten million of them take half a second."""
MEGABYTE = 1 << 20


class Steps:
    """The longest step so far, and what host code ran in the leading thread outside of a task."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.longest = 0.0
        self.outside: list[str] = []
        self._in_step, self._in_task = threading.local(), threading.local()
        run_once, run = EventLoop.run_once, LoopOwnership.run

        def measured_step(loop: EventLoop, *arguments: Any) -> Any:
            self._in_step.value, self._in_task.seconds = True, 0.0
            sys.settrace(None)  # a step does not count what coverage does for each line of it
            begin = time.thread_time()
            try:
                return run_once(loop, *arguments)
            finally:
                self.longest = max(self.longest, time.thread_time() - begin - self._in_task.seconds)
                self._in_step.value = False

        def measured_task(ownership: LoopOwnership, *arguments: Any) -> Any:
            begin, self._in_task.value = time.thread_time(), True
            try:
                return run(ownership, *arguments)
            finally:
                self._in_task.value = False
                self._in_task.seconds += time.thread_time() - begin

        patch.setattr(EventLoop, "run_once", measured_step)
        patch.setattr(LoopOwnership, "run", measured_task)

    def host_code(self, what: str) -> None:
        """Record that host code runs in this thread."""
        if getattr(self._in_step, "value", False) and not getattr(self._in_task, "value", False):
            self.outside.append(what)


class HostCodec:
    """A codec of the host: JSON as it is."""

    binary = False

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def encode(self, data: bytes) -> bytes:
        self._steps.host_code("encode")
        return data

    def decode(self, data: bytes) -> bytes:
        self._steps.host_code("decode")
        return data


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[WebSocketServer, Steps]]:
    with serve() as found:
        yield found


@contextmanager
def serve() -> Iterator[tuple[WebSocketServer, Steps]]:
    patch = pytest.MonkeyPatch()
    steps = Steps(patch)
    rpc = RpcTable()

    @rpc.method
    def echo(value: Any) -> Any:
        steps.host_code("method")
        return value

    server = WebSocketServer(
        rpc,
        Config(deflate=True),
        on_connect=lambda session: steps.host_code("on_connect"),
        on_disconnect=lambda session, code, reason: steps.host_code("on_disconnect"),
    )
    server.gauge("host", "", lambda: steps.host_code("gauge") or 1)
    server.subprotocol("host.v1", HostCodec(steps))
    gc.collect()
    gc.freeze()  # a step does not count the collection of the whole suite's objects
    gc.disable()
    try:
        with server:
            yield server, steps
    finally:
        gc.enable()
        gc.unfreeze()
        patch.undo()


def text(payload: bytes) -> bytes:
    return REQUEST + client_frame(1, payload)


def in_protocol(name: bytes, payload: bytes, opcode: int = 1) -> bytes:
    return REQUEST[:-2] + b"Sec-WebSocket-Protocol: " + name + b"\r\n\r\n" + client_frame(opcode, payload)


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: localhost", b"X-Dilithion-RPC: 1", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    small = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    return REQUEST[:-2] + extension + client_frame(1, small, rsv=4)


SHAPES: dict[str, Callable[[int], bytes]] = {
    "text": lambda n: text(b'{"method":"echo","id":1,"params":["%b"]}' % (b"x" * n)),
    "text of many characters": lambda n: text(b'{"method":"echo","id":1,"params":["%b"]}' % ("ä" * (n // 2)).encode()),
    "members": lambda n: text(b'{"method":"echo","id":1,%b"a":0}' % (b'"b":0,' * (n // 6))),
    "array": lambda n: text(b'{"method":"echo","id":1,"params":[[%b0]]}' % (b"0," * (n // 2))),
    "nesting": lambda n: text(b'{"method":"echo","id":1,"params":[%b]}' % (b"[" * n)),
    "id": lambda n: text(b'{"method":"echo","params":[1],"id":"%b"}' % (b"\\u0041" * (n // 6))),
    "method": lambda n: text(b'{"method":"%b","id":1}' % (b"m" * n)),
    "batch": lambda n: text(b"[%b0]" % (b'{"method":"echo","params":[1],"id":1},' * (n // 38))),
    "batch of nothing": lambda n: text(b"[%b0]" % (b"0," * (n // 2))),
    "no JSON": lambda n: text(b"{" * n),
    "many calls": lambda n: REQUEST + client_frame(1, b'{"method":"echo","params":[1],"id":1}') * (n // 43),
    "many malformed messages": lambda n: REQUEST + client_frame(1, b"{") * (n // 7),
    "pings": lambda n: REQUEST + client_frame(9, b"p") * (n // 7),
    "empty fragments": lambda n: REQUEST + client_frame(1, b"", fin=False) + client_frame(0, b"", fin=False) * (n // 6),
    "fragments": lambda n: REQUEST + client_frame(1, b"", fin=False) + client_frame(0, b"x", fin=False) * (n // 7),
    "binary": lambda n: REQUEST + client_frame(2, bytes(n)),
    "MessagePack": lambda n: in_protocol(b"dilithion.v1+msgpack", msgspec.msgpack.encode([0] * n), 2),
    "a host's codec": lambda n: in_protocol(b"host.v1", b'{"method":"echo","id":1,"params":["%b"]}' % (b"x" * n)),
    "a bomb": lambda n: deflated(b" " * n),
    "deflated members": lambda n: deflated(b'{"method":"echo","id":1,%b"a":0}' % (b'"b":0,' * (n // 6))),
    "filter": lambda n: text(
        b'{"method":"subscribe","id":1,"params":["mempool",{"address":[%b"a"]}]}' % (b'"a",' * (n // 4))
    ),
    "body": lambda n: post(b'{"method":"echo","id":1,"params":["%b"]}' % (b"x" * n)),
    "body of members": lambda n: post(b'{"method":"echo","id":1,%b"a":0}' % (b'"b":0,' * (n // 6))),
    "chunks": lambda n: (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * (n // 6)
    ),
    "headers": lambda n: b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (n // 6) + b"\r\n",
    "one header": lambda n: b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * n + b"\r\n\r\n",
    "target": lambda n: b"GET /" + b"x" * n + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "requests": lambda n: b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * (n // 44),
    "metrics": lambda n: b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * (n // 45),
    "documents": lambda n: b"GET /openrpc.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * (n // 50),
    "lines": lambda n: b"\r\n" * (n // 2),
    "lines after a request": lambda n: post(b'{"method":"echo","id":1,"params":[1]}') + b"\r\n" * (n // 2),
    "subprotocols": lambda n: in_protocol(b"a," * (n // 2) + b"a", b"x"),
    "extensions": lambda n: REQUEST[:-2] + b"Sec-WebSocket-Extensions: " + b"a;b=c," * (n // 6) + b"a\r\n\r\n",
}


SLOW = {"requests", "metrics", "documents", "empty fragments", "fragments", "chunks", "many malformed messages"}
"""Shapes of which a megabyte takes seconds."""


def throw(port: int, data: bytes) -> None:
    """Send bytes and read what comes back until the server ends the connection, or has nothing more to say."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        reader = threading.Thread(target=_drain, args=(sock,))
        reader.start()
        try:
            sock.sendall(data)
            sock.sendall(client_frame(8))
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has ended it
        reader.join(20)


def _drain(sock: socket.socket) -> None:
    try:
        while sock.recv(MEGABYTE):
            pass
    except OSError:
        pass


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SHAPES)), st.integers(100, MEGABYTE))
def test_no_step_of_the_leading_thread_grows_with_the_input(
    served: tuple[WebSocketServer, Steps], shape: str, size: int
) -> None:
    check(served, shape, size // 16 if shape in SLOW else size)


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_input_makes_a_long_step(served: tuple[WebSocketServer, Steps], shape: str) -> None:
    check(served, shape, MEGABYTE // 16 if shape in SLOW else MEGABYTE)


def check(served: tuple[WebSocketServer, Steps], shape: str, size: int) -> None:
    """Check the longest step for one input.

    What work costs, it costs each time, and what it costs once for each server, it costs again in a fresh one; what the
    machine adds, it adds at random. So a step that was too long has to be shorter in one of three fresh servers, which
    have served another client before.
    """
    longest = [measure(*served, shape, size)]
    limit = additions_time()
    while min(longest) >= limit and len(longest) < 4:
        with serve() as fresh:
            measure(*fresh, "text", 100)
            longest.append(measure(*fresh, shape, size))
    assert min(longest) < limit, f"{shape} of {size} bytes: {longest} seconds, where {limit} are allowed"


def additions_time() -> float:
    """Return the processor time of the additions that a step may cost, in seconds, on this machine now."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        begin, total = time.thread_time(), 0
        for number in range(MAX_STEP_ADDITIONS):
            total += number
        return time.thread_time() - begin
    finally:
        sys.settrace(trace)


def measure(server: WebSocketServer, steps: Steps, shape: str, size: int) -> float:
    """Return the seconds of the longest step for one input. Check that no code of the host runs outside of a task."""
    steps.longest = 0.0
    throw(server.port, SHAPES[shape](size))
    with RawClient(server.port) as other:
        assert other.call("echo", 1)["result"] == 1
    assert steps.outside == []
    return steps.longest
