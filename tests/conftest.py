"""Fixtures: servers that are stopped at the end of a test, whatever happened."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer

from .support import SECRETS, RawClient, RedisServer
from .support.accounts import write_users
from .support.configs import take_config
from .support.fixtures import ClientFactory, ServerFactory
from .support.room_coverage import measure
from .support.standin import StandIn
from .support.thread_contracts import check_all

pytest_plugins = ["pytester"]

settings.register_profile("untimed", parent=settings(), deadline=None)  # a busy machine is not a fault of the code
settings.load_profile("untimed")

check_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fails every test whose output or log, down to debug messages, has a secret in it.

    A test that is skipped fails, too, if the environment demands that nothing is (`scripts/test --install`).
    """
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("NOTHING_SKIPPED"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although nothing may be: {report.longrepr}"
    shown = "".join(text for _, text in report.sections)
    found = [secret for secret in SECRETS if secret in shown]
    if found and report.passed:
        report.outcome = "failed"
        report.longrepr = f"the test's output or log shows {found[0]!r}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Notes in the coverage data which room a test belongs to."""
    measure(item)
    return (yield)


@pytest.fixture
def rpc() -> RpcTable:
    """A table with a few methods."""
    table = RpcTable()
    table.register("getblockcount", lambda: 840000)

    @table.method
    def add(a: int, b: int = 2) -> int:
        """Add two numbers"""
        return a + b

    @table.method
    def echo(value: Any) -> Any:
        return value

    return table


@pytest.fixture
def start(rpc: RpcTable) -> Iterator[ServerFactory]:
    """Starts servers; keyword arguments that name a limit set it, the others go to the server."""
    servers: list[WebSocketServer] = []

    def start(table: RpcTable | None = None, **options: Any) -> WebSocketServer:
        server = WebSocketServer(rpc if table is None else table, take_config(options), **options)
        servers.append(server.start())
        return server

    yield start
    for server in servers:
        server.stop(2.0)


@pytest.fixture
def connect() -> Iterator[ClientFactory]:
    """Makes raw clients that are closed at the end."""
    clients: list[RawClient] = []

    def connect(server: WebSocketServer, **options: Any) -> RawClient:
        clients.append(RawClient(server.port, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event for handlers to wait on; it is set at the end, so that no thread is left waiting."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def guarded(rpc: RpcTable, tmp_path: Path) -> Iterator[WebSocketServer]:
    """A server with users: a reader, whose password is the name doubled, and an admin named root."""
    path = tmp_path / "users.json"
    write_users(path, reader="readonly", root="admin")
    rpc.register("sendtoaddress", lambda address, amount: "txid")
    rpc.register("getbalance", lambda: 5)
    with WebSocketServer(rpc, Config(users_file=str(path), limits=Limits.from_names(drain_timeout=1.0))) as server:
        yield server


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in for a Dilithion node that asks for no password."""
    node = StandIn()
    yield node
    node.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()
