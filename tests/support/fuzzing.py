"""Feed bytes of strangers to a whole server without threads: one case takes a fraction of a millisecond.

Everything is real but the pool, whose jobs run at once: parsers, access control with users, JSON-RPC. After each case
nothing may be logged as an error, no step of the leading thread may take long, and nothing may be left of the connection.
"""

from __future__ import annotations

import gc
import logging
import random
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from dilithion_ws import Config, RpcTable
from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.authenticator import Authenticator
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.users import User, UserDirectory
from dilithion_ws.events.hub import EventHub
from dilithion_ws.rpc.dispatcher import Dispatcher
from dilithion_ws.rpc.executor import Executor
from dilithion_ws.service.access_control import AccessControl
from dilithion_ws.service.callbacks import Callbacks
from dilithion_ws.service.health import HealthReports
from dilithion_ws.service.http_app import HttpApp, HttpAppParts
from dilithion_ws.service.http_routes import HttpRoutes
from dilithion_ws.service.login_method import LoginMethod
from dilithion_ws.service.metrics import HostGauges, PrometheusCollector
from dilithion_ws.service.openrpc import OpenRpcDocument
from dilithion_ws.service.rpc_service import RpcService, ServiceParts
from dilithion_ws.service.upgrades import SUBPROTOCOLS, UpgradePolicy

from . import REQUEST, client_frame
from .configs import make_config
from .net import Machine

__all__ = ["FuzzTarget", "cases"]

MAX_STEP_SECONDS = 0.005
HOUR = 3600.0


class FuzzTarget(logging.Handler):
    """A server with one user, and a client that is not logged in. Use it in a `with` statement.

    Attributes:
        slowest: seconds of processor time of the longest step so far.
        outliers: how often a step was slow that was not slow again.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(logging.WARNING)
        self.slowest = self._longest = 0.0
        self.outliers = 0
        self._errors: list[str] = []
        self._options = {"users_file": "users.json", "deflate": True, "limit_loopback": True, **options}

    def __enter__(self) -> FuzzTarget:
        logging.getLogger("dilithion_ws").addHandler(self)
        self._machine = Machine(**self._options)
        config = make_config(**self._options)
        audit = AuditLog("", self._machine.clock)
        user = User("reader", "readonly", 7, hash_password("right", "node"))
        self._authenticator = Authenticator(config, UserDirectory([user]), self._machine.clock, audit)
        service = _make_service(
            config, self._machine, AccessControl(config, self._authenticator, self._machine.clock, audit)
        )
        machine = self._machine
        machine.reactor.service = machine.loop.handler.messages.service = service
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gc.enable()
        gc.unfreeze()
        self._machine.close()
        self._authenticator.close()
        logging.getLogger("dilithion_ws").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the server logs as an error or a warning."""
        self._errors.append(record.getMessage())

    def forget(self) -> None:
        """Forget what was logged so far."""
        self._errors.clear()

    def run(self, pieces: Sequence[bytes]) -> None:
        """Send pieces one after the other, disconnect, and check that nothing is left.

        A slow step has to be slow three times: an interrupt of the machine counts as processor time of the thread, too.

        Raises:
            AssertionError: something was logged, a step was slow, or the connection is still there.
        """
        for _ in range(3):
            self._longest = 0.0
            self._run_once(pieces)
            if self._longest < MAX_STEP_SECONDS:
                self.slowest = max(self.slowest, self._longest)
                return
            self.outliers += 1
        raise AssertionError(f"a step took {self._longest * 1000:.1f} ms")

    def _run_once(self, pieces: Sequence[bytes]) -> None:
        machine = self._machine
        client = machine.accept("192.0.2.7")
        try:
            for piece in pieces:
                try:
                    client.sendall(piece)
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass  # the server has ended the connection, or reads nothing more
                self._step()
                try:
                    while client.recv(65536):
                        pass
                except (BlockingIOError, ConnectionResetError):
                    pass
        finally:
            client.close()
        self._step()
        for _ in range(4):  # handshake, linger, and write stall of what may be left
            machine.clock.now += HOUR
            self._step()
        assert self._errors == [], self._errors
        assert not machine.registry.all()

    def _step(self) -> None:
        machine = self._machine
        for _ in range(200):
            events = machine.reactor.poller.poll(0)
            begin = time.thread_time()
            machine.loop.run_once(events, machine.clock())
            seconds = time.thread_time() - begin
            self._longest = max(self._longest, seconds)
            while machine.pool.jobs:
                machine.run_job()
            if not (events or machine.mailbox.commands or machine.reactor.unpolled or machine.reactor.waiting):
                return
        raise AssertionError("the loop does not come to rest")


def _make_service(config: Config, machine: Machine, access: AccessControl) -> RpcService:
    clock, limits = machine.clock, config.limits
    rpc = RpcTable()
    rpc.register("getblockcount", lambda: 840000)
    events = EventHub(limits, clock)
    registry = machine.registry
    builtin = {"authenticate": LoginMethod(access, events, registry).method()}
    openrpc = OpenRpcDocument(rpc, builtin, access, events)
    dispatcher = Dispatcher(rpc, Executor(limits, clock, events), access, builtin)
    metrics = PrometheusCollector(_Nothing(), HostGauges())  # type: ignore[arg-type]
    http = HttpApp(
        HttpAppParts(access, dispatcher, openrpc, metrics, registry, True, HttpRoutes(), HealthReports(), events)
    )
    upgrades = UpgradePolicy(access, limits, SUBPROTOCOLS, rpc)
    callbacks = Callbacks(None, None, limits.calls.callback_backlog)
    return RpcService(ServiceParts(access, upgrades, dispatcher, http, events, callbacks, None))


class _Nothing:
    """Statistics that are never taken: a stranger may not read them."""


# Cases

_UPGRADE = REQUEST[:-2]
_SEEDS = (
    REQUEST,
    _UPGRADE + b"Authorization: Basic cmVhZGVyOndyb25n\r\n\r\n",
    _UPGRADE + b"Authorization: Bearer dws_x\r\n\r\n",
    _UPGRADE + b"Sec-WebSocket-Protocol: dilithion.v1, base64url.bearer.dilithion.cmVhZGVyOnJpZ2h0\r\n\r\n",
    _UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n\r\n",
    _UPGRADE + b"Origin: http://localhost\r\nX-Forwarded-For: 192.0.2.1, [::1]:5\r\n\r\n",
    REQUEST + client_frame(1, b'{"method":"authenticate","params":["reader","wrong"],"id":1}'),
    REQUEST + client_frame(1, b'{"method":"authenticate","params":["reader","right"],"id":1}') * 2,
    REQUEST + client_frame(1, b'[{"method":"getblockcount","id":1},{"method":"x"}]'),
    REQUEST + client_frame(1, b'{"method":', fin=False) + client_frame(0, b'"x","id":2}'),
    REQUEST + client_frame(9, b"ping") + client_frame(10, b"pong") + client_frame(8, b"\x03\xe8bye"),
    REQUEST + client_frame(2, b"\x82\xa6method\xa1x\xa2id\x01") + client_frame(1, b"\xff\xfe"),
    REQUEST + client_frame(1, b"\xaaVJ-R(M\x05\x00", rsv=4),
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
    b"GET http://localhost/openrpc.json HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nAuthorization: Basic cmVhZGVyOnJpZ2h0\r\n"
    b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
)
_TOKENS = (
    *(b"\r\n", b"\n", b"\0", b": ", b",", b"%", b"[", b"{", b'"', b"\\u0000", b"-1", b"null", b"1e999"),
    *(b"99999999999999999999", b"websocket", b"chunked", b"0\r\n\r\n", b"HTTP/1.1", b"Host: ", b"Upgrade: "),
    *(b"\x80\x80\0\0\0\0", b"\x81\xff" + b"\xff" * 8, b"\xff" * 20, b"a" * 300, b"\xc3\x28", b"\xf0\x9f\x92\xa9"),
)


def cases(seed: int) -> Iterator[list[bytes]]:
    """Yield cases without an end: seeds that are mutated, joined, and cut into pieces."""
    dice = random.Random(seed)
    while True:
        data = bytearray(dice.choice(_SEEDS))
        if dice.random() < 0.3:
            data += dice.choice(_SEEDS)
        for _ in range(dice.choice((0, 1, 1, 2, 4, 16))):
            _mutate(data, dice)
        cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.choice((0, 0, 1, 2, 5))))
        yield [bytes(data[start:end]) for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _mutate(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    way = dice.randrange(6)
    if way == 0 and data:
        data[at - 1] ^= 1 << dice.randrange(8)
    elif way == 1:
        data[at:at] = dice.choice(_TOKENS)
    elif way == 2:
        del data[at : at + dice.choice((1, 1, 4, 40))]
    elif way == 3:
        data[at:at] = bytes(dice.randrange(256) for _ in range(dice.choice((1, 2, 10))))
    elif way == 4:
        part = data[at : at + dice.choice((5, 50, 500))]
        data[at:at] = part * dice.choice((1, 3, 30))
    elif data:
        data[at - 1] = dice.randrange(256)
