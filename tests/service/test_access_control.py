"""Logins, permissions, rates and the audit log, over the network."""

from __future__ import annotations

import base64
import gc
import json
import select
import shutil
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, ConfigError, RpcTable, Session, StartError, WebSocketServer
from dilithion_ws.auth.audit_log import AuditLog
from dilithion_ws.auth.authenticator import Authenticator
from dilithion_ws.auth.credential_files import CredentialFiles
from dilithion_ws.auth.credentials import BEARER_PREFIX
from dilithion_ws.auth.users import UserDirectory
from dilithion_ws.net.connection import Connection
from dilithion_ws.protocol.frames import CLOSE
from dilithion_ws.service.access_control import AccessControl
from dilithion_ws.service.statistics import JobStatistics
from dilithion_ws.util.clock import monotonic
from dilithion_ws.util.file_watcher import FileWatcher

from ..support import Clock, client_frame, open_files, wait_for
from ..support.accounts import basic, code, log_in, with_header, write_users
from ..support.configs import make_config
from ..support.fixtures import ClientFactory, ServerFactory
from ..support.http import authorization, request

CHEAP = "scrypt:2:1:1"


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "rpc_permissions.json"
    write_users(path, reader="readonly", spender="wallet", root="admin")
    return path


@pytest.fixture
def serve(rpc: RpcTable) -> Iterator[ServerFactory]:
    servers: list[WebSocketServer] = []
    rpc.register("getbalance", lambda: 5)
    rpc.register("sendtoaddress", lambda address, amount: "txid")
    rpc.register("stop", lambda: "stopped")

    def serve(**options: Any) -> WebSocketServer:
        callbacks = {name: options.pop(name) for name in list(options) if name.startswith("on_")}
        server = WebSocketServer(rpc, make_config(**options), **callbacks)
        servers.append(server.start())
        return server

    yield serve
    for server in servers:
        server.stop(2.0)


# Logins


def test_basic_credentials_at_the_upgrade(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(user="alice", password="alicealice")
    client = log_in(server, "alice", connect)
    assert client.call("getblockcount")["result"] == 840000
    assert server.connections()[0].user == "alice"
    again = log_in(server, "alice", connect)
    assert again.call("stop")["result"] == "stopped", "the one user may do everything"


@pytest.mark.parametrize(
    "request_",
    [
        basic("alice", "wrong"),
        basic("bob"),
        basic("", ""),
        with_header("Authorization: Basic !!!"),
        with_header("Authorization: Bearer x"),
        with_header(f"Sec-WebSocket-Protocol: {BEARER_PREFIX}YTpi"),
    ],
)
def test_wrong_credentials_at_the_upgrade_are_401(
    serve: ServerFactory, connect: ClientFactory, request_: bytes
) -> None:
    client = connect(serve(user="alice", password="alicealice"), upgrade=False)
    client.send(request_)
    status, headers, _ = client.response()
    assert status == 401
    assert headers["www-authenticate"].startswith('Basic realm="Dilithion RPC"')


def test_the_bearer_subprotocol_is_not_echoed(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(user="alice", password="alicealice")
    client = connect(server, upgrade=False)
    secret = base64.urlsafe_b64encode(b"alice:alicealice").decode().rstrip("=")
    head = client.upgrade(with_header(f"Sec-WebSocket-Protocol: dilithion.v1, {BEARER_PREFIX}{secret}"))
    assert head.lower().count(b"sec-websocket-protocol: dilithion.v1") == 1
    assert secret.encode() not in head
    assert client.call("getblockcount")["result"] == 840000


def test_authenticate_as_the_first_call(serve: ServerFactory, connect: ClientFactory, users_file: Path) -> None:
    server = serve(users_file=str(users_file))
    client = connect(server)
    assert code(client.call("getblockcount")) == -32001
    assert code(client.call("nosuch")) == -32001, "a stranger does not learn what methods there are"
    client.text('[{"method":"getblockcount","id":1},{"method":"getblockcount"},{"method":"nosuch","id":2}]')
    assert [code(answer) for answer in client.answer()] == [-32001, -32001]
    assert client.call("authenticate", "spender", "spenderspender")["result"] == {"user": "spender", "role": "wallet"}
    assert client.call("getblockcount")["result"] == 840000
    assert server.connections()[0].user == "spender"


def test_five_failures_close_the_connection_and_lock_the_address(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file))
    client = connect(server)
    for guess in range(5):
        assert code(client.call("authenticate", "reader", f"wrong{guess}")) == -32001
    found, reason = client.close_frame()
    assert found == 4401
    assert "login failures limit of 5 logins (rpcwebsocketloginfailures)" in reason
    locked = connect(server, upgrade=False)
    locked.send(basic("reader"))
    status, headers, _ = locked.response()
    assert status == 429
    assert 0 < int(headers["retry-after"]) <= 60
    late = connect(server)
    answer = late.call("authenticate", "reader", "readerreader")
    assert code(answer) == -32005
    assert 0 < answer["error"]["data"]["retry_after_ms"] <= 60_000


def test_who_does_not_authenticate_in_time_is_closed(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file), authentication_timeout=0.2)
    silent, late = connect(server), log_in(server, "reader", connect)
    found, reason = silent.close_frame()
    assert found == 4401
    assert "rpcwebsocketauthenticationtimeout" in reason
    assert late.call("getblockcount")["result"] == 840000


def test_without_users_everybody_may_do_everything(serve: ServerFactory, connect: ClientFactory) -> None:
    client = connect(serve())
    assert client.call("stop")["result"] == "stopped"
    assert client.call("authenticate", "a", "b")["result"] == {"user": None, "role": "admin"}


def test_a_login_is_remembered_without_the_password(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    original = UserDirectory.check

    def check(self: UserDirectory, name: str, password: str) -> Any:
        threads.append(threading.current_thread().name)
        return original(self, name, password)

    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file))
    for _ in range(4):
        log_in(server, "reader", connect)
    assert len(threads) == 1


def test_passwords_are_never_checked_in_the_leading_thread(
    serve: ServerFactory,
    connect: ClientFactory,
    users_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    original = UserDirectory.check

    def check(self: UserDirectory, name: str, password: str) -> Any:
        gate.wait(20)
        return original(self, name, password)

    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file), login_queue=2, login_workers=2)
    waiting = [connect(server, upgrade=False) for _ in range(4)]
    for client in waiting:
        client.send(basic("reader"))
    wait_for(lambda: server.statistics().jobs["logins"].queued == 2)
    other = connect(server)
    for _ in range(20):
        assert code(other.call("getblockcount")) == -32001
    full = connect(server, upgrade=False)
    full.send(basic("reader"))
    status, headers, body = full.response()
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"login queue limit of 2 logins (rpcwebsocketloginqueue)" in body
    assert code(other.call("authenticate", "reader", "readerreader")) == -32009
    gate.set()
    for client in waiting:
        assert client.head().startswith(b"HTTP/1.1 101")


def test_a_client_that_leaves_while_its_password_is_checked(
    serve: ServerFactory,
    connect: ClientFactory,
    users_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    original = UserDirectory.check
    monkeypatch.setattr(UserDirectory, "check", lambda *args: gate.wait(20) and original(*args))
    server = serve(users_file=str(users_file), handshake_timeout=0.3)
    client = connect(server, upgrade=False)
    client.send(basic("reader"))
    status, _, _ = client.response()
    assert status == 408
    gate.set()
    wait_for(lambda: not server.statistics().jobs["logins"].running)
    assert server.connection_count == 0


def test_guesses_that_wait_together_are_not_all_checked(
    serve: ServerFactory,
    connect: ClientFactory,
    users_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    """Fifty upgrades and fifty calls arrive before the first guess has failed."""
    guesses: list[str] = []

    def check(self: UserDirectory, name: str, password: str) -> None:
        gate.wait(20)
        guesses.append(password)

    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file), login_queue=40)
    stranger = connect(server)
    for at in range(50):
        stranger.request("authenticate", ["reader", f"call{at}"], at)
    clients = [connect(server, upgrade=False) for _ in range(50)]
    for at, client in enumerate(clients):
        client.send(basic("reader", f"guess{at}"))
    sockets = [client.sock for client in clients]
    # Two are verified and 40 wait: before the others are refused, some of them may not even have arrived.
    wait_for(lambda: len(select.select(sockets, (), (), 0)[0]) >= 50 + 1 - 2 - 40)
    gate.set()
    statuses = [client.response()[0] for client in clients]
    codes = set()
    while (found := stranger.frame())[0] != CLOSE:
        codes.add(code(json.loads(found[1])))
    assert set(statuses) == {401, 429, 503}, "the others may try again"
    # Which of them find the address locked out, and which the queue full, is a matter of milliseconds.
    assert codes
    assert codes <= {-32001, -32005, -32009}
    assert code(connect(server).call("authenticate", "reader", "late")) == -32005
    assert len(guesses) <= 6, "five, and one that ran beside the fifth"


def test_a_user_removed_while_the_password_is_checked_does_not_come_in(
    serve: ServerFactory,
    connect: ClientFactory,
    users_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    original = UserDirectory.check
    inside: list[str] = []

    def check(self: UserDirectory, name: str, password: str) -> Any:
        inside.append(name)
        gate.wait(20)
        return original(self, name, password)

    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file))
    by_header, by_call = connect(server, upgrade=False), connect(server)
    by_header.send(basic("reader"))
    by_call.request("authenticate", ["reader", "readerreader"])
    wait_for(lambda: len(inside) == 2, what="both passwords being checked")
    write_users(users_file, root="admin")
    assert server.reload()
    gate.set()
    assert by_header.response()[0] == 401
    by_call.answer()
    assert by_call.close_frame() == (4401, "this user has been removed")


def test_a_user_who_is_removed_while_a_body_arrives_may_not_call(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file))
    client, body = connect(server, upgrade=False), b'{"method":"getblockcount","id":1}'
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Dilithion-RPC: 1\r\nContent-Length: %d\r\n" % len(body)
    authorization = base64.b64encode(b"reader:readerreader")
    client.send(head + b"Authorization: Basic " + authorization + b"\r\nExpect: 100-continue\r\n\r\n")
    assert b"100" in client.head(), "it may send its body"
    write_users(users_file, root="admin")
    assert server.reload()
    client.send(body)
    assert client.response()[0] == 401


def test_a_removed_user_does_not_become_the_configured_one_of_the_same_name(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    write_users(users_file, u="readonly", other="admin")
    server = serve(users_file=str(users_file), user="u", password="configured")
    client = connect(server, upgrade=False)
    client.upgrade(basic("u"))
    write_users(users_file, other="admin")
    assert server.reload()
    assert client.close_frame() == (4401, "this user has been removed")
    for password in ("uu", "configured"):
        again = connect(server, upgrade=False)
        again.send(basic("u", password))
        assert again.response()[0] == 401


def test_a_signal_may_ask_for_a_reload_whatever_its_thread_is_doing(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also within a reload, under the lock that the reload takes."""
    server = serve(users_file=str(users_file))
    client = connect(server, upgrade=False)
    client.upgrade(basic("reader"))
    previous = signal.signal(signal.SIGHUP, lambda *_: server.reload(0))
    original, raised = UserDirectory.get, list[str]()

    def get(self: UserDirectory, name: str) -> Any:
        if threading.current_thread() is threading.main_thread():
            raised.append(name)
            signal.raise_signal(signal.SIGHUP)
        return original(self, name)

    monkeypatch.setattr(UserDirectory, "get", get)
    try:
        config = Config(users_file=str(users_file))
        authenticator = Authenticator(config, UserDirectory(), Clock(), AuditLog())
        session = Session(1, ("127.0.0.1", 1), "reader")
        authenticator.refresh_rights(session)
        assert raised == ["reader"]
        assert server.reload()
        assert client.call("getblockcount")["id"] == 1
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_secret_in_the_output_would_be_noticed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the whole suite's output, checked itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    pytester.makeconftest(
        """
        from tests import conftest
        from tests.conftest import pytest_runtest_makereport

        conftest.SECRETS = ("marzipan",)
        """
    )
    pytester.makepyfile(
        """
        import logging

        def test_clean():
            logging.debug("nothing to see")

        def test_leak():
            logging.debug("the password is %s", "marzi" + "pan")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--log-level=DEBUG")
    result.assert_outcomes(passed=1, failed=1, errors=1)  # the call, and the report of its teardown


# Permissions


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("reader", {"getblockcount", "getbalance"}),
        ("spender", {"getblockcount", "getbalance", "sendtoaddress"}),
        ("root", {"getblockcount", "getbalance", "sendtoaddress", "stop", "echo"}),
    ],
)
def test_roles_may_do_what_they_may(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, name: str, allowed: set[str]
) -> None:
    client = log_in(serve(users_file=str(users_file)), name, connect)
    params: dict[str, list[Any]] = {"sendtoaddress": ["x", 1], "echo": [1]}
    for method in ("getblockcount", "getbalance", "sendtoaddress", "stop", "echo"):
        answer = client.call(method, *params.get(method, []))
        assert code(answer) == (None if method in allowed else -32003), method
        if method not in allowed:
            assert answer["error"]["error_code"] == "RPC-PERMISSION-DENIED"
            assert name not in json.dumps(answer["error"])
    assert code(client.call("nosuch")) == -32601


def test_each_element_of_a_batch_is_checked_by_itself(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, rpc: RpcTable
) -> None:
    ran: list[str] = []
    rpc.register("savemempool", lambda: ran.append("savemempool"))
    client = log_in(serve(users_file=str(users_file)), "reader", connect)
    client.text('[{"method":"getblockcount","id":1},{"method":"savemempool","id":2},{"method":"savemempool"}]')
    assert [code(answer) for answer in client.answer()] == [None, -32003]
    client.text('{"method":"savemempool"}')
    client.send(client_frame(2, b'{"method":"savemempool","id":3}'))
    assert code(client.answer()) == -32003
    assert ran == []


def test_raw_messages_are_for_the_admitted(serve: ServerFactory, connect: ClientFactory, users_file: Path) -> None:
    seen: list[Any] = []
    server = serve(users_file=str(users_file), on_message=lambda session, message: seen.append(message))
    stranger = connect(server)
    stranger.text("hello")
    assert code(stranger.answer()) == -32700
    assert seen == []
    client = log_in(server, "reader", connect)
    client.text("hello")
    wait_for(lambda: seen == ["hello"])


def test_reload_removes_users_and_changes_roles_without_dropping_others(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file))
    reader, spender, root = (log_in(server, name, connect) for name in ("reader", "spender", "root"))
    write_users(users_file, spender="readonly", root="admin")
    assert server.reload()
    assert reader.close_frame() == (4401, "this user has been removed")
    assert code(spender.call("sendtoaddress", "x", 1)) == -32003
    assert spender.call("getbalance")["result"] == 5
    assert root.call("stop")["result"] == "stopped"
    users_file.write_text("{")
    assert not server.reload()
    assert root.call("stop")["result"] == "stopped"
    assert log_in(server, "spender", connect).call("getbalance")["result"] == 5


def test_a_change_of_the_users_file_is_noticed(serve: ServerFactory, connect: ClientFactory, users_file: Path) -> None:
    server = serve(users_file=str(users_file))
    reader = log_in(server, "reader", connect)
    write_users(users_file, root="admin")
    assert reader.close_frame() == (4401, "this user has been removed")


# Files


def test_the_cookie_is_made_private_and_removed(serve: ServerFactory, connect: ClientFactory, tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    server = serve(cookie_file=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    name, _, secret = path.read_text().partition(":")
    assert name == "__cookie__"
    assert len(bytes.fromhex(secret)) == 16
    client = connect(server, upgrade=False)
    client.upgrade(basic(name, secret))
    assert client.call("stop")["result"] == "stopped"
    client.close()
    assert server.stop(5)
    assert not path.exists()


def test_a_cookie_of_another_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    files = CredentialFiles(Config(cookie_file=str(path)))
    path.write_text("__cookie__:of another server")
    files.close()
    assert path.exists()


def test_a_start_on_a_port_in_use_leaves_the_cookie_of_the_running_server(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    server = serve(cookie_file=str(path))
    before = path.read_text()
    with pytest.raises(StartError, match="another program listens there"):
        serve(cookie_file=str(path), port=server.port)
    assert path.read_text() == before


def test_a_start_that_fails_over_its_cookie_leaves_nothing(serve: ServerFactory, tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(ConfigError, match="rpcwebsocketcookiefile"):
        serve(cookie_file=str(tmp_path / "none" / ".cookie"))
    wait_for(lambda: open_files() <= before)


def test_a_change_between_reading_and_watching_is_noticed(users_file: Path) -> None:
    files = CredentialFiles(Config(users_file=str(users_file)))
    watcher, changed = FileWatcher(files.watched_paths()), threading.Event()
    try:
        files.load_users()
        write_users(users_file, root="admin")
        watcher.start(lambda: changed.set() is None)
        assert changed.wait(10)
    finally:
        watcher.stop()
        files.close()


def test_reload_outside_of_a_run_does_nothing(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc)
    assert not server.reload()
    with server:
        assert server.reload()
    assert not server.reload()


def test_files_that_cannot_be_used_are_one_clear_error(tmp_path: Path, rpc: RpcTable, users_file: Path) -> None:
    for settings, words in (
        ({"cookie_file": str(tmp_path / "no" / "cookie")}, "rpcwebsocketcookiefile"),
        ({"audit_log": str(tmp_path / "no" / "audit")}, "rpcwebsocketauditlog"),
        ({"users_file": str(tmp_path / "none")}, "can't be read: No such file"),
        ({"user": "a:b", "password": "x"}, "no colon"),
    ):
        server = WebSocketServer(rpc, Config(**settings))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
            server.start()
        assert not server.is_running


# Rates


def test_the_nodes_rates_hold_for_each_user_and_not_for_loopback(serve: ServerFactory, connect: ClientFactory) -> None:
    free = connect(serve())
    for _ in range(50):
        assert free.call("sendtoaddress", "x", 1)["result"] == "txid"
    client = connect(serve(limit_loopback=True))
    answers = [client.call("sendtoaddress", "x", 1) for _ in range(12)]
    assert [code(answer) for answer in answers] == [None] * 10 + [-32005] * 2
    error = answers[-1]["error"]
    assert error["error_code"] == "RPC-RATE-LIMIT"
    assert 0 < error["data"]["retry_after_ms"] <= 6000
    assert "rpcwebsocketmethodrates" in error["message"]
    assert code(client.call("getblockcount")) is None, "each method has a bucket of its own"


def test_rates_survive_reconnects_and_count_every_element_of_a_batch(
    serve: ServerFactory, connect: ClientFactory
) -> None:
    server = serve(limit_loopback=True, method_rates=("getblockcount=5/0.01",))
    client = connect(server)
    client.text(json.dumps([{"method": "getblockcount", "id": at} for at in range(7)]))
    assert [code(answer) for answer in client.answer()] == [None] * 5 + [-32005] * 2
    assert code(connect(server).call("getblockcount")) == -32005


def test_who_keeps_on_is_closed(serve: ServerFactory, connect: ClientFactory, tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    options: dict[str, Any] = {"method_rates": ("default=1/0.01",), "max_rate_violations": 5, "audit_log": str(log)}
    client = connect(serve(limit_loopback=True, **options))
    for _ in range(6):
        client.call("getblockcount")
    found, reason = client.close_frame()
    assert found == 1008
    assert "rpcwebsocketratestrikes" in reason
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["rate limited"], "one line for all of them"
    assert "rpcwebsocketmethodrates" in lines[0]["limit"]


def test_requests_of_a_user_are_one_line_of_the_audit_log(
    serve: ServerFactory, users_file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "audit.log"
    server = serve(users_file=str(users_file), audit_log=str(log))
    for name in ("reader", "reader", "spender", "reader"):
        headers = {"X-Dilithion-RPC": "1", **authorization(name)}
        assert request(server, "POST", "/", {"method": "getblockcount", "id": 1}, headers)[0] == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["user"]) for line in lines] == [("login", "reader"), ("login", "spender")]


def test_messages_bytes_and_connections_have_rates(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(limit_loopback=True, message_burst=3, message_rate=0.01)
    client = connect(server)
    answers = [client.call("getblockcount") for _ in range(4)]
    assert [code(answer) for answer in answers] == [None] * 3 + [-32005]
    assert "rpcwebsocketmessagerate" in answers[3]["error"]["message"]
    server = serve(limit_loopback=True, byte_burst=2000, byte_rate=1.0)
    client = connect(server)
    client.call("echo", "x" * 1950)
    assert "rpcwebsocketbyterate" in client.call("getblockcount")["error"]["message"]
    server = serve(limit_loopback=True, connection_burst=2, connection_rate=0.01)
    connect(server)
    connect(server)
    third = connect(server, upgrade=False)
    status, headers, body = third.response()
    assert status == 429
    assert headers["retry-after"]
    assert b"rpcwebsocketconnectionrate" in body


def test_nothing_that_comes_is_free(serve: ServerFactory, connect: ClientFactory, users_file: Path) -> None:
    """Batches of no requests, calls of strangers, pings and pieces of messages are counted as well."""
    limits = {"limit_loopback": True, "call_burst": 3, "call_rate": 0.001}
    client = connect(serve(**limits))
    client.text("[1,2,3,4,5]")
    assert [code(answer) for answer in client.answer()] == [-32600] * 3 + [-32005] * 2
    client.text("{")
    assert code(client.answer()) == -32005
    stranger = connect(serve(**limits, users_file=str(users_file)))
    stranger.text(json.dumps([{"method": "getblockcount", "id": at} for at in range(5)]))
    assert [code(answer) for answer in stranger.answer()] == [-32001] * 3 + [-32005] * 2
    pinging = connect(serve(limit_loopback=True, message_burst=3, message_rate=0.001, max_rate_violations=4))
    pinging.send(client_frame(9, b"x") * 20)
    assert [pinging.frame()[0] for _ in range(4)] == [10, 10, 10, 8], "three pongs, then closed"
    endless = connect(serve(limit_loopback=True, byte_burst=2000, byte_rate=1.0))
    endless.send(client_frame(1, b"", fin=False) + client_frame(0, b"", fin=False) * 1000)
    found, reason = endless.close_frame()
    assert found == 1008
    assert "rpcwebsocketbyterate" in reason


def test_a_raw_message_past_its_rate_is_refused(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(limit_loopback=True, message_burst=1, message_rate=0.001, on_message=lambda session, message: "ok")
    client = connect(server)
    client.text("no JSON")
    assert client.message() == b"ok"
    client.text("no JSON")
    assert code(client.answer()) == -32005


def test_on_message_can_leave_slow_calls_and_logins_to_the_pool(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, rpc: RpcTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {"raw": set(), "slow": set(), "check": set()}
    original = UserDirectory.check

    def check(self: UserDirectory, name: str, password: str) -> Any:
        threads["check"].add(threading.get_ident())
        return original(self, name, password)

    def raw(session: Any, message: Any) -> Any:
        threads["raw"].add(threading.get_ident())
        return NotImplemented

    rpc.register("slow", lambda: threads["slow"].add(threading.get_ident()), blocking=True)
    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file), on_message=raw)
    client = log_in(server, "root", connect)
    threads["check"].clear()
    for at in range(20):
        client.request("slow", id=at)
        assert client.answer()["id"] == at
        assert code(client.call("authenticate", "root", "wrong" if at == 3 else "rootroot", id=1)) in (None, -32001)
        assert client.call("getblockcount")["result"] == 840000
    assert threads["raw"]
    assert threads["raw"].isdisjoint(threads["slow"] | threads["check"])


def test_a_remembered_login_forgives_earlier_failures_under_its_name(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file))
    for _ in range(8):
        log_in(server, "reader", connect)
        typo = connect(server, upgrade=False)
        typo.send(basic("reader", "wrong"))
        assert typo.response()[0] == 401


def test_who_has_hung_up_is_not_computed_for(
    serve: ServerFactory,
    connect: ClientFactory,
    users_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate: threading.Event,
) -> None:
    checked: list[str] = []

    def check(self: UserDirectory, name: str, password: str) -> None:
        checked.append(password)
        gate.wait(20)

    monkeypatch.setattr(UserDirectory, "check", check)
    server = serve(users_file=str(users_file), login_workers=1)
    first = connect(server, upgrade=False)
    first.send(basic("reader", "first"))
    wait_for(lambda: checked)
    for at in range(5):
        by_header, by_call = connect(server, upgrade=False), connect(server)
        by_header.send(basic("reader", f"header{at}"))
        by_call.request("authenticate", ["reader", f"call{at}"])
        wait_for(lambda at=at: server.statistics().jobs["logins"].queued == 2 * at + 2)
        by_header.close()
        by_call.close()
    gate.set()
    wait_for(lambda: server.statistics().jobs["logins"] == JobStatistics(0, 0))
    assert checked == ["first"]


def test_who_is_locked_out_and_keeps_on_is_closed(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    server = serve(users_file=str(users_file), login_failures=3)
    client = connect(server)
    guess = connect(server)
    for at in range(3):
        guess.call("authenticate", "reader", f"wrong{at}")
    for _ in range(3):
        assert code(client.call("authenticate", "reader", "wrong")) == -32005
    assert client.close_frame()[0] == 4401


def test_strikes_are_counted_in_a_row_for_raw_messages_too(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(
        limit_loopback=True,
        message_burst=1,
        message_rate=50.0,
        max_rate_violations=20,
        on_message=lambda session, message: "ok",
    )
    client, refused = connect(server), 0
    while refused < 40:
        client.text("x")
        client.text("x")
        answers = [client.message(), client.message()]
        refused += sum(answer != b"ok" for answer in answers)
        wait_for(lambda: client.text("x") or client.message() == b"ok")


def test_a_refused_binary_message_is_answered_in_valid_text(serve: ServerFactory, connect: ClientFactory) -> None:
    server = serve(limit_loopback=True, message_burst=1, message_rate=0.001, on_message=lambda session, message: "ok")
    client = connect(server)
    client.text("x")
    assert client.message() == b"ok"
    client.send(client_frame(2, b'{"id":"\xff\xfe"}'))
    assert client.answer()["id"] is None


def test_logins_in_a_batch_are_charged_as_well(serve: ServerFactory, connect: ClientFactory) -> None:
    client = connect(serve(limit_loopback=True, call_burst=3, call_rate=0.001))
    client.text(json.dumps([{"method": "authenticate", "params": ["a", "b"], "id": at} for at in range(6)]))
    assert [code(answer) for answer in client.answer()] == [-32600] * 3 + [-32005] * 3


def test_what_waits_behind_a_message_that_times_out_is_never_begun(
    serve: ServerFactory, connect: ClientFactory, gate: threading.Event
) -> None:
    begun: list[Any] = []

    def handler(session: Any, message: Any) -> None:
        begun.append(message)
        gate.wait(20)

    client = connect(serve(on_message=handler, call_timeout=0.2))
    client.send(client_frame(1, b"first") + client_frame(1, b"second"))
    assert client.close_frame()[0] == 1011
    assert begun == ["first"]


def test_calls_behind_a_login_wait_for_it(serve: ServerFactory, connect: ClientFactory, users_file: Path) -> None:
    client = connect(serve(users_file=str(users_file)))
    request = '{"method":"%s","params":%s,"id":%d}'
    login = request % ("authenticate", '["reader","readerreader"]', 1)
    client.send(client_frame(1, login.encode()) + client_frame(1, (request % ("getbalance", "[]", 2)).encode()))
    assert [client.answer().get("result") for _ in range(2)] == [{"user": "reader", "role": "readonly"}, 5]


def test_a_login_among_other_calls_of_a_batch_is_refused(
    serve: ServerFactory, connect: ClientFactory, users_file: Path
) -> None:
    client = connect(serve(users_file=str(users_file)))
    login = '{"method":"authenticate","params":["reader","readerreader"],"id":1}'
    client.text(f'[{login},{{"method":"getbalance","id":2}}]')
    answers = client.answer()
    assert [code(answer) for answer in answers] == [-32600, -32001]
    assert "send it by itself" in answers[0]["error"]["message"]
    client.text(f"[{login}]")
    assert client.answer()[0]["result"] == {"user": "reader", "role": "readonly"}


def test_addresses_may_be_restricted() -> None:
    config = Config(allow_ips=("10.0.0.0/8",))
    audit = AuditLog("", monotonic)
    access = AccessControl(config, Authenticator(config, UserDirectory(), monotonic, audit), monotonic, audit)
    for host in ("10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1"):
        assert access.check_connection(host) is None
    for host in ("192.0.2.1", "::2", "nonsense"):
        refusal = access.check_connection(host)
        assert refusal is not None
        assert refusal.status == 403


# The audit log


def test_the_audit_log_has_a_line_for_each_event_and_no_secret(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "audit.log"
    server = serve(users_file=str(users_file), audit_log=str(path))
    client = log_in(server, "reader", connect)
    client.call("sendtoaddress", "secret-address", 1)
    stranger = connect(server)
    for guess in range(5):
        stranger.call("authenticate", "reader", f"hush-hush{guess}")
    stranger.close_frame()
    foreign = connect(server, upgrade=False)
    foreign.send(with_header("Origin: https://evil.example"))
    foreign.response()
    path.rename(tmp_path / "audit.log.1")
    server.reload()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "created again after a rotation"
    lines = [json.loads(line) for file in (tmp_path / "audit.log.1", path) for line in file.read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events == ["login", "denied", *["login failed"] * 5, "locked out", "refused", "reload"]
    assert all(line["time"] and "address" in line and "user" in line for line in lines)
    assert lines[1]["method"] == "sendtoaddress"
    assert lines[1]["user"] == "reader"
    assert lines[7]["scope"] == "name at address"
    users_file.write_text("{")
    server.reload()
    wait_for(lambda: '"reload failed"' in path.read_text())
    text = json.dumps(lines) + caplog.text
    for secret in ("hush-hush", "readerreader", "secret-address"):
        assert secret not in text


def test_the_audit_log_counts_what_comes_too_often(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    path.touch(0o644)
    server = serve(users_file=str(users_file), audit_log=str(path), audit_burst=5, audit_rate=0.001)
    for _ in range(7):
        log_in(server, "spender", connect)
    client = log_in(server, "reader", connect)
    for _ in range(50):
        client.call("stop")
    server.stop(5)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    denied = [line for line in lines if line["event"] == "denied"]
    assert [line.get("suppressed") for line in denied] == [None] * 5 + [45]
    logins = [(line["user"], line.get("suppressed")) for line in lines if line["event"] == "login"]
    assert logins == [("spender", None)] * 5 + [("reader", None), ("spender", 2)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "though it was there with another mode"


def test_an_audit_file_that_fails_changes_no_decision(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    server = serve(users_file=str(users_file), audit_log=str(folder / "audit"))
    shutil.rmtree(folder)
    assert log_in(server, "reader", connect).call("getbalance")["result"] == 5
    stranger = connect(server)
    assert [code(stranger.call("authenticate", "root", f"wrong{guess}")) for guess in range(5)] == [-32001] * 5
    locked = connect(server, upgrade=False)
    locked.send(basic("root", "wrong"))
    status, headers, _ = locked.response()
    assert status == 429
    assert int(headers["retry-after"]) <= 60


def test_a_user_removed_during_a_slow_reload_is_closed(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens while the new file is being read has met the old users, and is looked at again afterwards."""
    server = serve(users_file=str(users_file))
    original, clients = CredentialFiles.load_users, []

    def load(self: CredentialFiles) -> Any:
        directory = original(self)
        if not clients:
            clients.append(log_in(server, "reader", connect))
            assert clients[0].call("getbalance")["result"] == 5
        return directory

    write_users(users_file, root="admin")
    monkeypatch.setattr(CredentialFiles, "load_users", load)
    assert server.reload()
    assert clients[0].close_frame() == (4401, "this user has been removed")


def test_nothing_that_is_logged_or_shown_has_a_secret(
    serve: ServerFactory, connect: ClientFactory, users_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    cookie = tmp_path / ".cookie"
    server = serve(
        users_file=str(users_file),
        cookie_file=str(cookie),
        user="alice",
        password="hush-password",
        on_connect=lambda s: None,
    )
    secret = cookie.read_text().partition(":")[2]
    client = connect(server, upgrade=False)
    client.upgrade(basic("alice", "hush-password"))
    client.call("authenticate", "alice", "hush-wrong")
    client.text('{"method":"authenticate","params":{"user":"alice","password":5},"id":1}')
    shown = json.dumps(client.answer())
    wrong = connect(server, upgrade=False)
    wrong.send(basic("alice", "hush-typo"))
    shown += str(wrong.response())
    shown += repr([server, server.config, server.connections(), server.statistics()])
    shown += repr([kept for kept in gc.get_objects() if isinstance(kept, (Connection, Session, AccessControl))])
    shown += caplog.text
    assert "hush" not in shown
    assert secret not in shown


# Before the login


def test_a_client_that_has_yet_to_log_in_sends_small_messages(guarded: WebSocketServer, connect: ClientFactory) -> None:
    client = connect(guarded)
    client.request("getbalance", ["x" * 5000])
    status, reason = client.close_frame()
    assert status == 1009
    assert "rpcwebsocketunauthenticatedmessagesize" in reason
    client = connect(guarded)
    client.request("authenticate", ["reader", "readerreader"], id=1)
    client.request("getbalance", ["x" * 5000], id=2)
    assert client.answer()["result"] == {"user": "reader", "role": "readonly"}
    assert client.answer()["error"]["code"] == -32602, "too many params, and not a message that is too large"


def test_a_fragment_before_the_login_is_refused(guarded: WebSocketServer, connect: ClientFactory) -> None:
    client = connect(guarded)
    client.send(client_frame(1, b"{", fin=False))
    assert client.close_frame() == (1008, "log in first: until then a message has one frame")


def test_a_user_has_the_limits_of_one_client_at_all_addresses_together() -> None:
    clock, config = Clock(), make_config(limit_loopback=True, message_burst=5, byte_burst=1024, byte_rate=1.0)
    audit = AuditLog("", clock)
    access = AccessControl(config, Authenticator(config, UserDirectory(), clock, audit), clock, audit)

    def session_at(number: int, user: str | None) -> Session:
        session = access.make_session(number, (f"192.0.2.{number}", 1))
        session.user = user
        return session

    assert [access.check_message(session_at(at, "alice")) is None for at in range(7)] == [True] * 5 + [False] * 2
    assert access.check_message(session_at(20, "bob")) is None
    assert access.check_message(session_at(21, "192.0.2.20")) is None, "a name that is an address is another one's"
    access.charge_bytes(session_at(30, "carol"), 1024, 1)
    assert access.check_message(session_at(31, "carol")) is not None
    assert access.check_message(session_at(32, None)) is None
