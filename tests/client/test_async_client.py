"""What is special about the client for asyncio: cancelling, and many tasks in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from dilithion_ws import Config, RpcError, RpcTable, WebSocketServer
from dilithion_ws.client import AsyncClient, Client, ConnectionLostError, EventsLostError, RefusedError, merged
from dilithion_ws.devnode import DevNode

from ..support import free_port, wait_for
from ..support.accounts import write_users
from ..support.devnode import serve_devnode
from ..support.fixtures import ServerFactory
from ..support.subscriptions import block, hold_subscribe

Trial = Callable[[WebSocketServer, AsyncClient], Coroutine[Any, Any, None]]


@pytest.fixture
def run(start: ServerFactory, rpc: RpcTable) -> Callable[[Trial], WebSocketServer]:
    """Return a function that runs a coroutine with a client, and afterwards finds no task of it."""

    def run(trial: Trial) -> WebSocketServer:
        server = start(rpc, history_entries=10_000)

        async def main() -> None:
            async with AsyncClient(server.url, backoff=(0.01, 0.05), timeout=10) as client:
                await trial(server, client)
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())
        return server

    return run


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true, while the loop goes on."""
    await asyncio.get_running_loop().run_in_executor(None, wait_for, condition)


def test_cancelling_a_reader_loses_no_event(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        blocks, chance, seen = await client.subscribe("blocks"), random.Random(3), []
        publisher = threading.Thread(target=lambda: [server.publish("blocks", block(at)) for at in range(1, 1001)])
        publisher.start()
        cancelled = 0
        while len(seen) < 1000:
            task = asyncio.ensure_future(blocks.get())
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                seen.append((await task).data["height"])
                continue
            cancelled += 1
            await asyncio.sleep(0)
        publisher.join()
        assert seen == list(range(1, 1001))
        assert cancelled > 100

    run(trial)


def test_waiting_for_a_limited_time_loses_no_event(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        blocks, seen, timeouts = await client.subscribe("blocks"), [], 0
        for height in range(1, 201):
            threading.Timer(0.001, server.publish, ["blocks", block(height)]).start()
            while True:
                try:
                    seen.append((await asyncio.wait_for(blocks.get(), 0.0012)).data["height"])
                    break
                except asyncio.TimeoutError:
                    timeouts += 1
        assert seen == sorted(seen)
        assert len(set(seen)) == 200

    run(trial)


def test_a_cancelled_call_returns_at_once(
    run: Callable[[Trial], WebSocketServer], rpc: RpcTable, gate: threading.Event
) -> None:
    rpc.register("wait", lambda: gate.wait(20), blocking=True)

    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        task = asyncio.ensure_future(client.call("wait"))
        await until(lambda: client._core.open_calls)
        await cancel(task)
        assert client._core.open_calls == 0
        gate.set()
        assert await client.call("getblockcount") == 840000

    run(trial)


def test_a_subscription_whose_caller_is_cancelled_is_ended(
    run: Callable[[Trial], WebSocketServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        slow, done = hold_subscribe(server, monkeypatch)
        task = asyncio.ensure_future(client.subscribe("blocks"))
        await until(lambda: client._core.open_calls)
        await cancel(task)
        slow.set()
        await until(lambda: done.is_set() and not server.events.cursors.all())

    run(trial)


def test_calls_of_many_tasks(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        found = await asyncio.gather(*(client.call("add", at, 1) for at in range(500)))
        assert found == list(range(1, 501))

    run(trial)


def test_several_subscriptions_as_one(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        blocks, peers = await client.subscribe("blocks"), await client.subscribe("peers")
        events = merged(blocks, peers)
        for at in range(1, 21):
            server.publish("blocks", block(at))
            server.publish("peers", {"kind": "connected", "id": at, "addr": "a", "inbound": True, "peers": at})
        found = [await anext(events) for _ in range(40)]
        assert [event.data["height"] for event in found if event.topic == "blocks"] == list(range(1, 21))
        assert [event.data["id"] for event in found if event.topic == "peers"] == list(range(1, 21))
        server.events.start_new_epoch("peers")
        with pytest.raises(EventsLostError):
            await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await cancel(waiting)
        server.publish("blocks", block(21))
        assert (await anext(events)).data["height"] == 21
        blocks.close()
        peers.close()
        assert [event async for event in events] == []

    run(trial)


def test_closing_ends_readers_and_callers(run: Callable[[Trial], WebSocketServer], rpc: RpcTable) -> None:
    released = threading.Event()
    rpc.register("wait", lambda: released.wait(20), blocking=True)

    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        blocks = await client.subscribe("blocks")
        reader = asyncio.ensure_future(blocks.get())
        caller = asyncio.ensure_future(client.call("wait"))
        await until(lambda: client._core.open_calls)
        await client.close()
        assert await reader is None
        with pytest.raises(ConnectionLostError, match="the client is closed"):
            await caller
        with pytest.raises(ConnectionLostError, match="the client is closed"):
            await client.subscribe("blocks")
        released.set()

    run(trial)


def test_leaving_a_followed_payment_ends_its_subscription() -> None:
    node = DevNode(seed=4, mining=False)

    async def main(url: str) -> None:
        async with AsyncClient(url) as client:
            tx, _ = node.others.build(node.wallet.new_address(), 5_000_000)
            node.submit(tx)
            async with contextlib.aclosing(client.follow_transaction(tx.txid)) as events:
                async for event in events:
                    assert event.data["kind"] == "seen"
                    break
            assert await client.call("subscriptions") == []

    with serve_devnode(node) as server:
        asyncio.run(main(server.url))


def test_cancelling_an_attempt_to_connect() -> None:
    async def main() -> None:
        client = AsyncClient(f"ws://127.0.0.1:{free_port()}", backoff=(60.0, 60.0))
        task = asyncio.ensure_future(client.connect())
        await asyncio.sleep(0.01)  # it is on its way, somewhere
        await cancel(task)
        await client.close()
        await client.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_refusal_is_given_to_each_caller(start: ServerFactory) -> None:
    server = start(user="alice", password="alicealice")

    async def main() -> None:
        client = AsyncClient(server.url, user="alice", password="wrong")
        found = await asyncio.gather(*(client.call("getblockcount") for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in found] == [RefusedError] * 5
        await client.close()

    asyncio.run(main())


# What an attack found


def test_a_task_that_is_cancelled_when_its_answer_comes_is_cancelled(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        await client.connect()
        for _ in range(50):
            task = asyncio.ensure_future(client.call("getblockcount"))
            await asyncio.sleep(0)
            original = client._core.on_message

            def cancel_too(message: str | bytes, task: asyncio.Task[Any] = task, original: Any = original) -> None:
                original(message)
                task.cancel()

            client._core.on_message = cancel_too  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await task
            client._core.on_message = original  # type: ignore[method-assign]

    run(trial)


def test_a_client_works_after_all_tasks_were_cancelled(run: Callable[[Trial], WebSocketServer]) -> None:
    async def trial(server: WebSocketServer, client: AsyncClient) -> None:
        blocks = await client.subscribe("blocks")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)
        assert not client.is_connected
        server.publish("blocks", block(1))
        assert await client.call("getblockcount") == 840000
        assert (await blocks.get()).seq == 1

    run(trial)


def test_a_client_can_be_used_in_one_loop_after_the_other(start: ServerFactory) -> None:
    client = AsyncClient(start().url, timeout=5)

    async def main() -> None:
        assert await client.call("getblockcount") == 840000

    asyncio.run(main())
    assert not client.is_connected
    asyncio.run(main())
    asyncio.run(client.close())


def test_closing_ends_the_task_of_a_server_that_does_not_close(start: ServerFactory) -> None:
    async def main(port: int) -> None:
        client = AsyncClient(f"ws://127.0.0.1:{port}", connect_timeout=5)
        task = asyncio.ensure_future(client.connect())
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(ConnectionLostError, match="the client is closed"):
            await task
        assert len(asyncio.all_tasks()) == 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(main(listener.getsockname()[1]))


def test_merging_ends_what_has_ended_with_an_error(start: ServerFactory, rpc: RpcTable, tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, spender="wallet")
    with WebSocketServer(rpc, Config(users_file=str(path))) as server:
        server.topic("wallets", permission="WRITE_WALLET")
        with Client(server.url, user="spender", password="spenderspender") as client:
            events = merged(client.subscribe("wallets"))
            write_users(path, spender="readonly")
            assert server.reload()
            with pytest.raises(RpcError, match="may not read"):
                next(events)
            assert list(events) == []

    async def both(url: str) -> None:
        async with AsyncClient(url) as asynchronous:
            with Client(url) as synchronous, pytest.raises(TypeError, match="of both kinds"):
                merged(synchronous.subscribe("blocks"), await asynchronous.subscribe("blocks"))  # type: ignore[call-overload]

    asyncio.run(both(start().url))
