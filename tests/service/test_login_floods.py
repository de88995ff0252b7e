"""Logins while others guess: who has the right password comes in, whatever the guessers do."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, Limits, RpcTable, WebSocketServer
from dilithion_ws.auth.passwords import hash_password
from dilithion_ws.auth.users import User, UsersFile, render_users

from ..support.accounts import basic

OUTSTANDING = 300
"""Guesses that wait for their answers at a time: several times what the server lets wait."""


@pytest.fixture
def server(rpc: RpcTable, tmp_path: Path) -> Iterator[WebSocketServer]:
    """One with twenty users, whose passwords are stored as by default: slowly computed."""
    path = tmp_path / "rpc_permissions.json"
    stored = hash_password("hush")
    users = {f"user{at}": User(f"user{at}", "readonly", 0x0F, stored) for at in range(20)}
    path.write_text(render_users(UsersFile(users, {})))
    path.chmod(0o600)
    limits = Limits.from_names(max_tracked_clients=500, connections=5000)
    with WebSocketServer(rpc, Config(users_file=str(path), limits=limits)) as server:
        yield server


def attempt(server: WebSocketServer, source: str, request: bytes) -> int:
    """The status that a login gets."""
    with socket.create_connection(("127.0.0.1", server.port), 10, source_address=(source, 0)) as sock:
        sock.sendall(request)
        return int(sock.recv(4096).split()[1])


class Attack(threading.Thread):
    """Wrong logins, many at a time, until `count` have been answered."""

    def __init__(self, server: WebSocketServer, count: int, *, spread: bool) -> None:
        super().__init__()
        self.server, self.count, self.spread = server, count, spread
        self.outcomes: dict[int, int] = {}
        self.failure: BaseException | None = None
        self._sent = 0

    def run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                for _ in range(OUTSTANDING):
                    self._send(selector)
                deadline = time.monotonic() + 120
                while sum(self.outcomes.values()) < self.count:
                    assert time.monotonic() < deadline
                    for key, _ in selector.select(1):
                        sock: Any = key.fileobj
                        selector.unregister(sock)
                        status = int(sock.recv(4096).split()[1])
                        sock.close()
                        self.outcomes[status] = self.outcomes.get(status, 0) + 1
                        self._send(selector)
                for key in list(selector.get_map().values()):
                    key.fileobj.close()  # type: ignore[union-attr]
        except BaseException as failure:
            self.failure = failure

    def _send(self, selector: selectors.BaseSelector) -> None:
        at = self._sent
        self._sent += 1
        source = f"127.{1 + at // 62500}.{at // 250 % 250}.{1 + at % 250}" if self.spread else "127.0.0.9"
        sock = socket.create_connection(("127.0.0.1", self.server.port), 10, source_address=(source, 0))
        sock.sendall(basic(f"user{at % 20}", f"wrong{at}"))
        selector.register(sock, selectors.EVENT_READ)


def finish(attack: Attack) -> None:
    attack.join(120)
    assert attack.failure is None
    assert not attack.is_alive()
    assert set(attack.outcomes) <= {401, 429, 503}
    assert attack.server.statistics().tracked_addresses <= 500


@pytest.mark.load
def test_ten_thousand_wrong_logins_from_one_address_leave_others_alone(server: WebSocketServer) -> None:
    attack = Attack(server, 10_000, spread=False)
    attack.start()
    for at in range(20):
        assert attempt(server, f"127.0.1.{1 + at}", basic(f"user{at}", "hush")) == 101, "at the first try"
    finish(attack)
    assert attack.outcomes[429] > 5000, "most of them came from an address that was locked out by then"
    assert attack.outcomes[401] <= 20 + 2, (
        "as many as lock out an address, and those that two threads verify beside them"
    )


@pytest.mark.load
def test_ten_thousand_wrong_logins_from_as_many_addresses(server: WebSocketServer) -> None:
    """A user with an earlier login gets in at the first try, a new user by trying again after Retry-After."""
    assert attempt(server, "127.250.0.1", basic("user0", "hush")) == 101
    attack = Attack(server, 10_000, spread=True)
    attack.start()
    for at in range(1, 10):
        assert attempt(server, "127.250.0.1", basic("user0", "hush")) == 101, "a password that was right lately"
        assert attempt(server, "127.250.0.1", basic(f"user{at}", "hush")) == 101, "an address with a good login"
    for at in range(10, 13):
        deadline = time.monotonic() + 60
        while (status := attempt(server, f"127.250.1.{at}", basic(f"user{at}", "hush"))) != 101:
            assert status == 503, "right credentials are never called wrong"
            assert time.monotonic() < deadline
    finish(attack)
