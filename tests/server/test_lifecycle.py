"""Start, stop, and everything that may happen to them."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dilithion_ws import (
    CallLimits,
    Config,
    ConfigError,
    ForkError,
    Limits,
    NotRunningError,
    RpcTable,
    StartError,
    WebSocketServer,
    initialize_websocket,
)
from dilithion_ws.config.fields import settings_of
from dilithion_ws.net.connection import Connection

from ..support import TEST_TIMEOUT, RawClient, client_frame, free_port, open_files, wait_for
from ..support.configs import make_config
from ..support.fixtures import ClientFactory, ServerFactory


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dilithion-ws")]


def refuses(port: int) -> bool:
    """Return whether the port refuses connections."""
    try:
        RawClient(port, upgrade=False).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def python(code: str, seconds: float = 20.0) -> subprocess.CompletedProcess[str]:
    """Runs a program of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=seconds, check=False
    )


def test_a_started_server_answers_and_a_stopped_one_does_not(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc)
    assert not server.is_running
    assert server.start() is server
    assert server.is_running
    assert server.port > 0
    assert server.url == f"ws://127.0.0.1:{server.port}"
    with RawClient(server.port) as client:
        assert client.call("getblockcount")["result"] == 840000
        assert server.connection_count == 1
    assert server.stop()
    assert not server.is_running
    with pytest.raises(ConnectionRefusedError):
        RawClient(server.port)
    assert "stopped" in repr(server)


def test_a_server_can_start_again_and_as_a_context(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc)
    for _ in range(3):
        with server, RawClient(server.port) as client:
            assert client.call("add", 1)["result"] == 3
        assert not server.is_running


def test_two_servers_in_one_process(rpc: RpcTable) -> None:
    other = RpcTable()
    other.register("name", lambda: "other")
    with (
        WebSocketServer(rpc) as first,
        WebSocketServer(other) as second,
        RawClient(first.port) as one,
        RawClient(second.port) as two,
    ):
        assert one.call("getblockcount")["result"] == 840000
        assert two.call("name")["result"] == "other"
        assert one.call("name")["error"]["code"] == -32601


def test_a_failed_start_leaves_nothing(rpc: RpcTable) -> None:
    threads, files = our_threads(), open_files()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = WebSocketServer(rpc, Config(port=taken.getsockname()[1]))
        with pytest.raises(StartError, match="another program listens there"):
            server.start()
        assert not server.is_running
        assert server.stop()
        assert our_threads() == threads
    wait_for(lambda: open_files() <= files)


def test_a_second_start_is_an_error(start: ServerFactory) -> None:
    server = start()
    with pytest.raises(StartError, match="runs already"):
        server.start()
    assert server.is_running


def test_calls_on_a_server_that_does_not_run(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc)
    assert server.connection_count == 0
    assert server.connections() == []
    assert server.stop()
    assert server.wait(0)
    for call in (lambda: server.send(1, "x"), lambda: server.broadcast("x"), lambda: server.close_connection(1)):
        with pytest.raises(NotRunningError):
            call()


@pytest.mark.load
def test_two_hundred_starts_and_stops_leave_no_thread_and_no_file(rpc: RpcTable) -> None:
    wait_for(lambda: our_threads() == [])
    with WebSocketServer(rpc) as server:
        RawClient(server.port).close()
    files = open_files()
    for turn in range(200):
        server = WebSocketServer(rpc, make_config(workers=4)).start()
        with RawClient(server.port) as client:
            client.request("getblockcount")
            if turn % 2:
                client.close()
            assert server.stop(5.0 if turn % 2 else 0.02)
    assert our_threads() == []
    wait_for(lambda: open_files() <= files)
    del server
    wait_for(lambda: not _connections_left(), what="the end of all connections")


def _connections_left() -> list[Connection]:
    gc.collect()
    return [item for item in gc.get_objects() if isinstance(item, Connection)]


# Stopping


def test_stop_says_1001_to_idle_clients_and_returns_when_they_answer(
    start: ServerFactory, connect: ClientFactory
) -> None:
    server = start(drain_timeout=10)
    client = connect(server)
    client.call("getblockcount")
    done = threading.Thread(target=server.stop)
    done.start()
    assert client.close_frame() == (1001, "the server is stopping")
    client.send(client_frame(8, (1001).to_bytes(2, "big")))
    assert client.at_end()
    client.close()
    done.join(3)
    assert not done.is_alive()


@pytest.fixture
def calling(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> tuple[WebSocketServer, RawClient]:
    """A server, and a client whose call 5 runs until the gate opens."""
    rpc.register("wait", lambda: gate.wait(10), blocking=True)
    server = start()
    client = connect(server)
    client.request("wait", id=5)
    wait_for(lambda: server.connections()[0].in_flight == 1)
    return server, client


def test_stop_lets_running_calls_end(calling: tuple[WebSocketServer, RawClient], gate: threading.Event) -> None:
    server, client = calling
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    wait_for(lambda: refuses(server.port))
    gate.set()
    assert client.answer() == {"jsonrpc": "2.0", "result": True, "id": 5}
    assert client.close_frame()[0] == 1001
    client.close()
    stopper.join(5)
    assert not stopper.is_alive()


def test_stop_of_a_signal_handler_answers_running_calls_without_waiting(
    calling: tuple[WebSocketServer, RawClient], gate: threading.Event
) -> None:
    server, client = calling
    assert server.stop(0) is False
    gate.set()
    assert client.answer()["result"] is True
    assert client.close_frame()[0] == 1001
    client.close()
    assert server.wait(5)


def test_no_signal_handler_is_installed(rpc: RpcTable) -> None:
    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in signal.valid_signals()]

    before = handlers()
    with WebSocketServer(rpc):
        assert handlers() == before
    assert handlers() == before


def test_a_held_up_leader_is_not_responsive(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    """So that the watchdog of systemd is not told that all is well."""
    rpc.register("hold", lambda: gate.wait(10), blocking=False)
    server = start(leader_stall_timeout=30.0)
    assert server.is_responsive()
    connect(server).request("hold")
    wait_for(lambda: not server.is_responsive(0.1))
    gate.set()
    wait_for(lambda: server.is_responsive(1.0))


def test_on_a_python_without_the_private_hook_of_the_exit_a_program_ends() -> None:
    done = python(
        """
        import concurrent.futures.thread, threading
        del threading._register_atexit
        from dilithion_ws import RpcTable, WebSocketServer
        server = WebSocketServer(RpcTable()).start()
        assert server.stop(5)
        print("ended")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_stop_drops_clients_that_do_not_answer_at_its_deadline(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server)
    assert server.stop(0.5)
    assert client.close_frame()[0] == 1001
    assert client.at_end()


def test_stop_from_many_threads_and_twice(start: ServerFactory) -> None:
    server = start()
    threads = [threading.Thread(target=server.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert server.stop()


@pytest.mark.parametrize("blocking", [True, False, None])
def test_stop_from_within_a_handler(rpc: RpcTable, blocking: bool | None) -> None:
    server = WebSocketServer(rpc)
    rpc.register("stop", lambda: server.stop(), blocking=blocking)
    server.start()
    with RawClient(server.port) as client:
        assert client.call("stop")["result"] is False, "the handler is answered before the server has stopped"
        assert client.close_frame()[0] == 1001
        client.send(client_frame(8, (1001).to_bytes(2, "big")))
    assert server.wait(5)


def test_stop_with_every_worker_stuck(
    start: ServerFactory, connect: ClientFactory, rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("stuck", lambda: gate.wait(30))
    server = start(workers=4, queue=2)
    clients = [connect(server) for _ in range(8)]
    for client in clients:
        client.request("stuck")
    wait_for(lambda: sum(info.in_flight for info in server.connections()) >= 4)
    assert server.stop(1.0)
    assert not server.is_running


def test_a_broken_client_does_not_hold_up_stop(start: ServerFactory, connect: ClientFactory) -> None:
    server = start()
    client = connect(server, upgrade=False)
    client.send(b"GET / HT")
    wait_for(lambda: server.statistics().connections.total)
    assert server.stop(10 * TEST_TIMEOUT), "well before the time for it is over"


def test_stop_in_a_signal_handler() -> None:
    result = python("""
        import os, signal, threading
        from dilithion_ws import RpcTable, WebSocketServer

        server = WebSocketServer(RpcTable()).start()
        signal.signal(signal.SIGTERM, lambda *_: print("stopped", server.stop(5)))
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        server.wait()
        print("waited")
    """)
    assert result.stdout.split() == ["stopped", "True", "waited"], result.stderr


@pytest.mark.parametrize("ending", ["pass", "raise SystemExit(0)", "import os; server.broadcast('x')"])
def test_a_forgotten_server_lets_the_process_exit(ending: str) -> None:
    result = python(f"""
        from dilithion_ws import RpcTable, WebSocketServer
        server = WebSocketServer(RpcTable()).start()
        {ending}
    """)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_a_forgotten_server_with_a_stuck_handler_lets_the_process_exit() -> None:
    result = python("""
        import socket, threading
        from dilithion_ws import RpcTable, WebSocketServer
        from tests.support import RawClient

        rpc, inside = RpcTable(), threading.Event()
        rpc.register("stuck", lambda: inside.set() or threading.Event().wait())
        server = WebSocketServer(rpc).start()
        client = RawClient(server.port)
        client.request("stuck")
        inside.wait(5)
    """)
    assert result.returncode == 0, result.stderr


def test_stop_from_a_callback_does_not_wait_for_itself(rpc: RpcTable) -> None:
    results: list[bool] = []
    server = WebSocketServer(rpc, on_connect=lambda session: results.append(server.stop()))
    server.start()
    with RawClient(server.port) as client:
        assert client.close_frame()[0] == 1001
    assert server.wait(5)
    assert results == [False]


def test_stop_by_a_signal_that_interrupts_a_send_does_not_wait(
    start: ServerFactory, connect: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupted thread may hold the lock of a connection, for which the leader waits."""
    server, results = start(), []
    connect(server)
    original = Connection.send

    def interrupted(self: Connection, *args: Any) -> Any:
        with self.lock:
            results.append(server.stop(10 * TEST_TIMEOUT))
        return original(self, *args)

    monkeypatch.setattr(Connection, "send", interrupted)
    wait_for(lambda: server.connection_count == 1)
    server.send(server.connections()[0].id, "x")
    assert results == [False]
    assert server.stop(5)


@pytest.mark.parametrize("failing", ["dilithion-ws_2", "dilithion-ws-acceptor", "dilithion-ws-watchdog"])
def test_a_start_without_room_for_threads_is_undone(
    rpc: RpcTable, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    wait_for(lambda: our_threads() == [])
    files = open_files()
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(failing[:15]) and thread.name.endswith(failing[15:]):
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    server = WebSocketServer(rpc)
    with pytest.raises(StartError, match="can't start new thread"):
        server.start()
    monkeypatch.undo()
    assert not server.is_running
    wait_for(lambda: our_threads() == [])
    wait_for(lambda: open_files() <= files)
    with server, RawClient(server.port) as client:
        assert client.call("getblockcount")["result"] == 840000


@pytest.mark.parametrize(
    "use",
    [
        lambda server: server.broadcast("x"),
        lambda server: server.publish("mining", {"kind": "stopped"}),
        lambda server: server.send_to_user("alice", {}),
    ],
    ids=["broadcast", "publish", "send_to_user"],
)
def test_a_forked_child_gets_an_error(start: ServerFactory, use: Callable[[WebSocketServer], object]) -> None:
    server = start()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            use(server)
        except ForkError:
            os.write(write, b"fork" if server.stop() and not server.is_running else b"?")
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"fork"
    with RawClient(server.port) as client:
        assert client.call("getblockcount")["result"] == 840000


def test_a_child_forked_after_the_stop_may_publish(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc).start()
    assert server.stop(5)
    child = os.fork()
    if child == 0:
        try:
            server.publish("mining", {"kind": "stopped"})
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_does_not_keep_the_port(rpc: RpcTable) -> None:
    server = WebSocketServer(rpc).start()
    port = server.port
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent has finished
        os._exit(0)
    os.close(read)
    try:
        assert server.stop(5)
        wait_for(lambda: refuses(port))
        with WebSocketServer(rpc, Config(port=port)), RawClient(port) as client:
            assert client.call("getblockcount")["result"] == 840000
    finally:
        os.close(write)
        os.waitpid(child, 0)


# InitializeWebSocket


def test_initialize_websocket_starts_a_server(rpc: RpcTable) -> None:
    port = free_port()
    server = initialize_websocket(rpc, port)
    assert server
    with server, RawClient(port) as client:
        assert client.call("getblockcount")["result"] == 840000


def test_initialize_websocket_with_port_0_is_off_and_no_error(rpc: RpcTable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not initialize_websocket(rpc, 0)
    assert "switched off" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("port", [70000, -1])
def test_initialize_websocket_never_raises(rpc: RpcTable, port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert not initialize_websocket(rpc, port)
    assert "the node goes on without" in caplog.text


def test_initialize_websocket_on_a_port_in_use(
    start: ServerFactory, rpc: RpcTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert not initialize_websocket(rpc, start().port)
    assert "another program listens there" in caplog.text


# Settings


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"workers": 2}, "workers (rpcwebsocketworkers) is 2; it takes a whole number of threads, at least 3"),
        ({"message_size": 2.5}, "rpcwebsocketmessagesize"),
        ({"queue": True}, "rpcwebsocketqueue"),
        ({"call_timeout": "30"}, "rpcwebsocketcalltimeout"),
        ({"call_timeout": float("inf")}, "a number of s"),
        ({"json_depth": 1000}, "at most 200"),
    ],
)
def test_bad_limits_are_one_clear_error(limits: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Limits.from_names(**limits)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"port": -1}, {"port": "8333"}, {"port": True}, {"host": ""}, {"backlog": 0}], ids=str
)
def test_bad_settings_are_one_clear_error(settings: Any) -> None:
    with pytest.raises(ConfigError, match="it takes"):
        Config(**settings)


def test_limits_are_frozen_and_explained() -> None:
    limits = Limits()
    with pytest.raises(AttributeError):
        limits.calls = CallLimits(workers=5)  # type: ignore[misc]
    for setting in settings_of(Limits):
        assert setting.unit
        assert setting.description.endswith(".")


def test_sigint_reaches_a_host_that_waits() -> None:
    result = python("""
        import os, signal, threading
        from dilithion_ws import RpcTable, WebSocketServer

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
        with WebSocketServer(RpcTable()) as server:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                server.wait()
            except KeyboardInterrupt:
                print("interrupted")
    """)
    assert result.stdout.strip() == "interrupted"
    assert result.returncode == 0, result.stderr
