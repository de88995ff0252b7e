"""The asyncio client with the interface of the synchronous one, so that one test tries both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from dilithion_ws.client import AsyncClient, AsyncSubscription, CallTimeoutError, Event

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LoopClient"]

T = TypeVar("T")


class LoopClient:
    """Runs an `AsyncClient` in a loop, in a thread of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = AsyncClient(url, **options)
        self._core = self._client._core
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return repr(self._client)

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop."""
        if self._loop.is_closed():
            return asyncio.run(coroutine)  # it says that the client is closed
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    def connect(self, timeout: float | None = None) -> None:
        self.run(self._client.connect(timeout))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.run(self._client.close())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        assert self._thread is not None
        self._thread.join()
        self._loop.run_until_complete(asyncio.sleep(0))  # readers return
        assert not asyncio.all_tasks(self._loop)
        self._loop.close()

    def call(self, method: str, /, *params: Any, **named: Any) -> Any:
        return self.run(self._client.call(method, *params, **named))

    def call_with_position(self, *params: Any, **named: Any) -> Any:
        return self.run(self._client.call_with_position(*params, **named))

    def batch(self, calls: Any) -> Any:
        return self.run(self._client.batch(calls))

    def notify(self, *params: Any, **named: Any) -> None:
        self.run(self._client.notify(*params, **named))

    def subscribe(self, topic: str, **options: Any) -> LoopSubscription:
        return LoopSubscription(self, self.run(self._client.subscribe(topic, **options)))

    def follow_blocks(self, from_height: int | None = None, **options: Any) -> LoopSubscription:
        return LoopSubscription(self, self.run(self._client.follow_blocks(from_height, **options)))

    def follow_transaction(self, txid: str, confirmations: int = 6) -> Iterator[Event]:
        events = self._client.follow_transaction(txid, confirmations)

        async def following() -> Event | None:
            return await anext(events, None)

        while (event := self.run(following())) is not None:
            yield event


class LoopSubscription:
    """A subscription of a `LoopClient`."""

    def __init__(self, client: LoopClient, subscription: AsyncSubscription) -> None:
        self._client = client
        self._subscription = subscription
        self._state = subscription._state

    @property
    def position(self) -> Any:
        return self._subscription.position

    @property
    def is_paused(self) -> bool:
        return self._subscription.is_paused

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event: Event | None = self.get()
        if event is None:
            raise StopIteration
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def get(self, timeout: float | None = None) -> Any:
        async def get() -> Event | None:
            return await asyncio.wait_for(self._subscription.get(), timeout)

        try:
            return self._client.run(get())
        except asyncio.TimeoutError:
            raise CallTimeoutError("no event in time") from None

    def close(self) -> None:
        async def close() -> None:
            self._subscription.close()

        self._client.run(close())
