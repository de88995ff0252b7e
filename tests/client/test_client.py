"""The client against a real server: calls, events, and what it does when the connection is lost."""

from __future__ import annotations

import contextlib
import decimal
import gc
import itertools
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, ForkError, RpcError, RpcTable, WebSocketServer
from dilithion_ws.client import (
    CallTimeoutError,
    CertificateError,
    Client,
    ConnectionLostError,
    EventsLostError,
    RefusedError,
    Subscription,
)

from ..support import free_port, sockets_of, wait_for
from ..support.accounts import write_users
from ..support.certificates import Authority
from ..support.configs import make_config
from ..support.fixtures import ServerFactory
from ..support.subscriptions import block, hold_subscribe


@pytest.fixture
def make(client_class: type[Client]) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(server: WebSocketServer | str, **options: Any) -> Client:
        url = server if isinstance(server, str) else server.url
        clients.append(client_class(url, backoff=(0.01, 0.05), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_calls(start: ServerFactory, make: Callable[..., Client], rpc: RpcTable) -> None:
    rpc.register("price", lambda: decimal.Decimal("0.10"))
    client = make(start())
    assert client.call("getblockcount") == 840000
    assert client.call("add", 1, 2) == client.call("add", a=1, b=2) == 3
    assert client.call("echo", {"a": [1, None, "ü", 2**60]}) == {"a": [1, None, "ü", 2**60]}
    assert str(client.call("price")) == "0.10"
    assert len(client.call("echo", "x" * 1_000_000)) == 1_000_000
    with pytest.raises(RpcError, match="Method not found") as caught:
        client.call("nosuch")
    assert caught.value.code == -32601
    with pytest.raises(TypeError, match="by position or by name"):
        client.call("add", 1, b=2)


def test_batches_and_notifications(start: ServerFactory, make: Callable[..., Client], rpc: RpcTable) -> None:
    seen: list[int] = []
    rpc.register("note", lambda value: seen.append(value))
    client = make(start())
    first, second, third = client.batch([("add", [1, 1]), ("nosuch", []), ("getblockcount", [])])
    assert (first, third) == (2, 840000)
    assert isinstance(second, RpcError)
    assert client.batch([]) == []
    client.notify("note", 7)
    wait_for(lambda: seen == [7])


def test_calls_from_many_threads(start: ServerFactory, make: Callable[..., Client]) -> None:
    client, wrong = make(start()), []

    def work(number: int) -> None:
        for at in range(100):
            if client.call("add", number, at) != number + at:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_call_that_takes_too_long(
    start: ServerFactory, make: Callable[..., Client], rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(20), blocking=True)
    client = make(start())
    with pytest.raises(CallTimeoutError, match="no answer to wait in time"):
        client.call("wait", timeout_=0.1)
    assert client.call("getblockcount") == 840000


def test_there_is_no_server(client_class: type[Client], make: Callable[..., Client]) -> None:
    client = make(f"ws://127.0.0.1:{free_port()}", timeout=0.3)
    with pytest.raises(ConnectionLostError, match="no connection to ws://"):
        client.call("getblockcount")
    with pytest.raises(ValueError, match="is not the address of a server"):
        client_class("http://localhost")


def test_a_call_waits_for_a_server_that_comes_up(make: Callable[..., Client], rpc: RpcTable) -> None:
    port = free_port()
    client = make(f"ws://127.0.0.1:{port}")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(client.call("getblockcount")))
    thread.start()
    with WebSocketServer(rpc, Config(port=port)):
        thread.join(10)
        assert results == [840000]
        client.close()


def test_credentials(client_class: type[Client], rpc: RpcTable, make: Callable[..., Client], tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, reader="readonly")
    with WebSocketServer(rpc, Config(users_file=str(path))) as server:
        client = make(server, user="reader", password="readerreader")
        with pytest.raises(RpcError, match="Insufficient permissions"):
            client.call("add", 1, 2)
        assert client.call("getblockcount") == 840000
        assert "readerreader" not in repr(client)
        with pytest.raises(RefusedError, match="401") as caught:
            make(server, user="reader", password="wrong").call("getblockcount")
        assert caught.value.status == 401
        subscription = client.subscribe("blocks")
        write_users(path, other="admin")
        assert server.reload()
        # The end of the subscription and that of the connection are under way at the same time.
        with pytest.raises(
            (RpcError, RefusedError), match=r"may not read this any more|4401 this user has been removed"
        ):
            subscription.get(10)
        wait_for(lambda: not client.is_connected)
        with pytest.raises(RefusedError, match="4401 this user has been removed"):
            client.call("getblockcount")
    with pytest.raises(ValueError, match="belong together"):
        client_class("ws://localhost", user="x")


def test_over_tls(rpc: RpcTable, make: Callable[..., Client], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    config = Config(certificate=str(authority.certificate), private_key=str(authority.key))
    with WebSocketServer(rpc, config) as server:
        url = f"wss://localhost:{server.port}"
        client = make(url, ssl_context=authority.context())
        stopping = threading.Event()

        def publish() -> None:
            for height in itertools.count(1):
                if stopping.wait(0.0002):
                    return
                server.publish("blocks", block(height))

        subscription = client.subscribe("blocks")
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            # Reading and writing at once, with messages that do not fit into one record.
            for at in range(1, 30):
                text = "x" * (100_000 + at)
                assert client.call("echo", text) == text
                assert subscription.get(10).seq == at
        finally:
            stopping.set()
            thread.join()
        with pytest.raises(CertificateError, match=r"can't be verified: .*; for one of your own, pass an ssl_context"):
            make(url, ssl_context=ssl.create_default_context()).call("getblockcount")
        client.close()


def test_events_in_order_and_the_position(start: ServerFactory, make: Callable[..., Client]) -> None:
    server = start()
    client = make(server)
    with client.subscribe("blocks") as subscription:
        assert subscription.position.seq == 0
        for height in (1, 2, 3):
            server.publish("blocks", block(height))
        found = list(itertools.islice(subscription, 3))
        assert [event.data["height"] for event in found] == [1, 2, 3]
        assert subscription.position == found[-1].position
        with pytest.raises(CallTimeoutError):
            subscription.get(0.05)
    assert subscription.get(1) is None
    wait_for(lambda: client.call("subscriptions") == [])
    again = client.subscribe("blocks", since=found[0].position)
    assert [again.get(5).seq for _ in range(2)] == [2, 3]
    with pytest.raises(RpcError, match="there is no topic 'nosuch'"):
        client.subscribe("nosuch")


def test_an_iteration_ends_when_the_client_is_closed(start: ServerFactory, make: Callable[..., Client]) -> None:
    client = make(start())
    subscription = client.subscribe("blocks")
    ended: list[list[Any]] = []
    thread = threading.Thread(target=lambda: ended.append(list(subscription)))
    thread.start()
    client.close()
    thread.join(10)
    assert ended == [[]]
    with pytest.raises(ConnectionLostError, match="the client is closed"):
        client.call("getblockcount")


def test_it_resumes_where_it_was(start: ServerFactory, make: Callable[..., Client]) -> None:
    server = start()
    client = make(server)
    subscription = client.subscribe("blocks")
    for round in range(10):
        server.publish("blocks", block(2 * round + 1))
        connection = wait_for(server.connections)[0]
        server.close_connection(connection.id, 1012, "restarting")
        server.publish("blocks", block(2 * round + 2))
    assert [subscription.get(10).seq for _ in range(20)] == list(range(1, 21))


def test_it_says_so_where_events_are_lost(make: Callable[..., Client], rpc: RpcTable) -> None:
    port = free_port()
    with WebSocketServer(rpc, Config(port=port)) as server:
        client = make(server)
        subscription = client.subscribe("blocks")
        server.publish("blocks", block(1))
        first = subscription.get(10)
        server.stop(0.5)
    with WebSocketServer(rpc, Config(port=port)) as server:
        with pytest.raises(EventsLostError, match=r"events of blocks are lost after 1 \(epoch\)") as caught:
            subscription.get(10)
        assert caught.value.last == first.position
        assert caught.value.now.seq == 0
        wait_for(lambda: server.events.topic("blocks").in_use)
        server.publish("blocks", block(1))
        assert subscription.get(10).seq == 1, "it goes on"
        client.close()


def test_a_reader_that_falls_behind_loses_nothing_and_calls_go_on(
    start: ServerFactory, make: Callable[..., Client]
) -> None:
    server = start(history_entries=10_000)
    client = make(server, max_queued_events=50)
    subscription = client.subscribe("blocks")
    for height in range(1, 3001):
        server.publish("blocks", block(height))
    assert client.call("getblockcount") == 840000
    wait_for(lambda: subscription.is_paused)
    assert subscription._state.waiting <= 50
    assert [subscription.get(10).seq for _ in range(3000)] == list(range(1, 3001))


def test_latest_only(start: ServerFactory, make: Callable[..., Client]) -> None:
    server = start()
    server.topic("price", mode="latest", filters={})
    client = make(server)
    subscription = client.subscribe("price")
    for price in range(1000):
        server.publish("price", {"price": price})
    seen = []
    while not seen or seen[-1] != 999:
        seen.append(subscription.get(10).data["price"])
    assert seen == sorted(seen)


def test_a_subscription_that_the_server_ends_for_good(
    rpc: RpcTable, make: Callable[..., Client], tmp_path: Path
) -> None:
    path = tmp_path / "users.json"
    write_users(path, spender="wallet")
    with WebSocketServer(rpc, Config(users_file=str(path))) as server:
        server.topic("wallets", permission="WRITE_WALLET")
        client = make(server, user="spender", password="spenderspender")
        subscription = client.subscribe("wallets")
        write_users(path, spender="readonly")
        assert server.reload()
        with pytest.raises(RpcError, match="may not read"):
            subscription.get(10)
        assert client.call("getblockcount") == 840000
        client.close()


def test_pings_are_answered_between_calls(start: ServerFactory, make: Callable[..., Client]) -> None:
    server = start(ping_interval=0.05, pong_timeout=0.2)
    client = make(server)
    client.connect()
    first = wait_for(server.connections)[0].id
    turn = threading.Event()
    wait_for(lambda: turn.wait(0.01) or server.connections()[0].seconds > 1.0)
    assert server.connections()[0].id == first
    assert client.is_connected


def test_a_server_that_falls_silent_is_given_up(make: Callable[..., Client]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        client = make(f"ws://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.2)
        with pytest.raises(ConnectionLostError):
            client.connect(1.0)


def test_nothing_is_left_behind(client_class: type[Client], rpc: RpcTable) -> None:
    server = WebSocketServer(rpc, make_config(linger_timeout=0.1)).start()
    threads = threading.active_count()
    for _ in range(20):
        with client_class(server.url) as client:
            client.subscribe("blocks")
            assert client.call("getblockcount") == 840000
    wait_for(lambda: sockets_of(server.port) == 0)
    wait_for(lambda: threading.active_count() <= threads)
    server.stop(2)


# What a review found


def test_what_a_host_broadcasts_disturbs_nothing(start: ServerFactory, make: Callable[..., Client]) -> None:
    server = start()
    client = make(server)
    client.connect()
    first = wait_for(server.connections)[0].id
    for message in ("hello", b"\x00\xff", '{"id": [1]}', "[1, 2]", '{"method": "subscription", "params": {}}', "NaN"):
        server.broadcast(message)
    assert client.call("getblockcount") == 840000
    assert server.connections()[0].id == first


def test_a_batch_that_is_refused_as_a_whole(start: ServerFactory, make: Callable[..., Client]) -> None:
    client = make(start(batch_size=3))
    refused = client.batch([("getblockcount", [])] * 5)
    assert [error.code for error in refused] == [-32010] * 5
    assert client.batch([("getblockcount", [])] * 3) == [840000] * 3
    assert client._core.open_calls == 0


def test_a_rate_that_is_reached_ends_no_subscription(rpc: RpcTable, make: Callable[..., Client]) -> None:
    with WebSocketServer(rpc, Config(limit_loopback=True, method_rates=("subscribe=3/5",))) as server:
        for name in "abcde":
            server.topic(name)
        client = make(server)
        subscriptions = [client.subscribe(name) for name in "abcde"]
        server.close_connection(server.connections()[0].id, 1012)
        wait_for(lambda: len(server.events.cursors.all()) == 5, 30)
        for name in "abcde":
            server.publish(name, {"n": 1})
        assert [subscription.get(10).seq for subscription in subscriptions] == [1] * 5
        client.close()


def test_a_subscription_without_a_waiting_caller_is_ended(
    start: ServerFactory, make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    client = make(server, timeout=0.2)
    client.connect()
    slow, done = hold_subscribe(server, monkeypatch)
    with pytest.raises(CallTimeoutError):
        client.subscribe("blocks")
    slow.set()
    assert done.wait(10)
    wait_for(lambda: not server.events.cursors.all(), what="the client's unsubscribe")
    assert client.subscribe("blocks")._state.id == "blocks"


@pytest.mark.parametrize(
    "url", ["ws://h:99999", "ws://h:x", "ws://a..b:1", "ws://[::1", "ws://h/a b", "ws://", "ws://alice:hush@h:1", "h:1"]
)
def test_addresses_that_are_none(client_class: type[Client], url: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a server") as caught:
        client_class(url)
    assert "hush" not in str(caught.value)


def test_a_client_that_could_not_connect_leaves_no_thread(client_class: type[Client]) -> None:
    before = threading.active_count()
    with pytest.raises(ConnectionLostError), client_class(f"ws://127.0.0.1:{free_port()}", connect_timeout=0.2):
        pass
    wait_for(lambda: threading.active_count() <= before)


def test_close_does_not_wait_for_a_server_that_says_nothing(client_class: type[Client]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        before = threading.active_count()
        client = client_class(f"ws://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=60.0)
        with pytest.raises(ConnectionLostError):
            client.connect(0.2)
        client.close()
        assert threading.active_count() <= before


def test_reading_with_a_deadline_keeps_it_while_there_is_no_connection(
    make: Callable[..., Client], rpc: RpcTable
) -> None:
    with WebSocketServer(rpc) as server:
        client = make(server, max_queued_events=5)
        subscription = client.subscribe("blocks")
        for height in range(1, 30):
            server.publish("blocks", block(height))
        wait_for(lambda: subscription.is_paused)
        server.stop(1.0)
    wait_for(lambda: not client.is_connected)
    for _ in range(5):
        subscription.get(1)
    with pytest.raises(CallTimeoutError):
        subscription.get(0.1)


# What an attack found


def test_a_finalizer_that_ends_a_subscription_stops_nothing(start: ServerFactory) -> None:
    """The collector may run in a thread that has the client's lock, and an abandoned iteration then unsubscribes."""
    server = start()
    topics = [f"t{at}" for at in range(60)]
    for name in topics:
        server.topic(name)

    def follow(topic: str) -> Iterator[Subscription]:
        with client.subscribe(topic) as subscription:
            yield subscription

    threshold = gc.get_threshold()
    with Client(server.url, timeout=5) as client:
        gc.set_threshold(7)
        try:
            for name in topics:
                abandoned: list[Any] = [follow(name)]
                next(abandoned[0])
                abandoned.append(abandoned)
                del abandoned
                assert client.call("getblockcount") == 840000
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
        wait_for(lambda: client.call("subscriptions") == [])


def test_a_handler_of_a_signal_may_close_the_client(start: ServerFactory) -> None:
    server = start()
    subscription = None
    for _ in range(8):
        with Client(server.url) as client:
            subscription = client.subscribe("blocks")
            before = signal.signal(signal.SIGALRM, lambda *_, client=client: client.close())
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                with contextlib.suppress(ConnectionLostError):
                    while True:
                        client.call("getblockcount")
            finally:
                signal.signal(signal.SIGALRM, before)
        assert subscription.get(1) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_a_client_says_so(start: ServerFactory) -> None:
    with Client(start().url) as client:
        assert client.call("getblockcount") == 840000
        child = os.fork()
        if not child:
            try:
                client.call("getblockcount")
            except ForkError:
                client.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert client.call("getblockcount") == 840000
        assert client.is_connected


def test_timers_take_one_thread(client_class: type[Client], rpc: RpcTable) -> None:
    before = threading.active_count()
    with WebSocketServer(rpc, Config(limit_loopback=True, method_rates=("subscribe=1/1",))) as server:
        threads = threading.active_count()
        for name in "abcde":
            server.topic(name)
        with client_class(server.url) as client:
            client.connect()
            workers = [threading.Thread(target=client.subscribe, args=(name,), daemon=True) for name in "abcde"]
            for worker in workers:
                worker.start()
            wait_for(lambda: len(server.events.cursors.all()) > 2, 20)
            assert threading.active_count() <= threads + len(workers) + 4
            for worker in workers:
                worker.join(30)
            assert len(server.events.cursors.all()) == 5
    wait_for(lambda: threading.active_count() <= before)
