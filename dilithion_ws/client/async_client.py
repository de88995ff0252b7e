"""The asyncio client: calls and subscriptions over one connection, which it renews when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..util.clock import Deadline, monotonic
from ..util.position import Position
from .async_connection import AsyncConnection, open_connection
from .async_subscription import AsyncSubscription
from .base_client import BaseClient, Since, blocks_since, is_final, position_of, result_of, to_params
from .client_core import ClientCore, notification
from .exceptions import CallTimeoutError, ClientError, ConnectionLostError
from .open_calls import Answer, OutgoingCall, Reply
from .places import Place
from .subscription_state import Event

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncClient"]

T = TypeVar("T")
logger = logging.getLogger("dilithion_ws.client")

_CLOSE_SECONDS = 1.0


class AsyncClient(BaseClient):
    """Calls methods and subscribes to events of one server, in one event loop. Options: see `BaseClient`.

    Every method may be cancelled: it returns at once, and no event is lost by that. Closing takes a second at most.

    Example:
        >>> async with AsyncClient("ws://127.0.0.1:8333") as client:  # doctest: +SKIP
        ...     await client.call("getblockcount")
        840000
    """

    def _prepare(self) -> None:
        self._connection: AsyncConnection | None = None
        self._waiters: set[asyncio.Future[None]] = set()  # of those that wait for a connection
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, timeout: float | None = None) -> None:
        """Wait until the client is connected. Calls do this by themselves.

        Args:
            timeout: seconds to wait; None waits as long as one attempt may take.

        Raises:
            RefusedError: the server refuses this client.
            ConnectionLostError: there was none in time; the client goes on trying.
        """
        await self._connected(self._deadline(self._options.timeout if timeout is None else timeout))

    async def close(self) -> None:
        """Close the connection, and end the iterations over subscriptions."""
        with self._use_core() as core:
            core.close()
        self._notify()
        connection, task = self._connection, self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return
        if connection is None:
            task.cancel()  # it connects, or waits before it does
        else:
            connection.close()
        try:
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        finally:
            if connection is not None:
                connection.abort()
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    @overload
    async def call(
        self, method: str, /, *params: Any, as_: type[T], timeout_: float | None = None, **named: Any
    ) -> T: ...

    @overload
    async def call(self, method: str, /, *params: Any, timeout_: float | None = None, **named: Any) -> Any: ...

    async def call(
        self, method: str, /, *params: Any, as_: Any = None, timeout_: float | None = None, **named: Any
    ) -> Any:
        """Call a method and return its result. Params, results and errors are those of `Client.call`."""
        return result_of(await self._ask_method(method, to_params(params, named), timeout_), as_)

    async def call_with_position(
        self, method: str, /, *params: Any, timeout_: float | None = None, **named: Any
    ) -> tuple[Any, Position | None]:
        """Call a method and return its result, and the position at which a subscription continues that state.

        The position is None if the method has none (`position_of`).
        """
        answer = await self._ask_method(method, to_params(params, named), timeout_)
        return result_of(answer, None), position_of(answer)

    async def request(self, method: str, params: list[Any] | dict[str, Any], timeout: float | None = None) -> Any:
        """Call a method with its params in a list or a dictionary."""
        return result_of(await self._ask_method(method, params, timeout), None)

    async def batch(self, calls: Iterable[tuple[str, Sequence[Any]]], timeout: float | None = None) -> list[Any]:
        """Make several calls in one message. Results and errors are those of `Client.batch`."""
        wanted = list(calls)
        if not wanted:
            return []
        answer = await self._ask(lambda core, reply: core.batch(wanted, reply), self._deadline(timeout), "a batch")
        return result_of(answer, list)  # type: ignore[no-any-return]

    async def notify(self, method: str, *params: Any, **named: Any) -> None:
        """Call a method without requesting an answer. Errors of the method are not reported."""
        text = notification(method, to_params(params, named))
        deadline = self._deadline(None)
        await self._send(await self._connected(deadline), text, deadline)

    async def subscribe(
        self, topic: str, *, filter: dict[str, Any] | None = None, since: Since = None, mode: str | None = None
    ) -> AsyncSubscription:
        """Subscribe to a topic. Arguments and errors are those of `Client.subscribe`."""
        state, place = self._new_subscription(topic, filter, mode, since)
        subscription = AsyncSubscription(state, self._use_core)
        deadline = self._deadline(None)
        await self._connected(deadline)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            with self._use_core() as core:
                core.subscribe(state, place, _replies_to(answered), deadline.at)
            result_of(await _in_time(answered, deadline, f"subscribe {topic}"), None)
        except BaseException:
            subscription.close()
            raise
        return subscription

    async def follow_blocks(self, from_height: int | None = None, *, since: Place | None = None) -> AsyncSubscription:
        """Subscribe to `blocks` from a height on, after a place that was saved, or from now on."""
        return await self.subscribe("blocks", since=blocks_since(from_height, since))

    async def follow_transaction(
        self, txid: str, confirmations: int = 6, *, since: Place | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of a transaction until it has so many confirmations.

        It is `seen`, `confirmed` once for each confirmation, `unconfirmed` by a reorganisation, or `dropped`.
        """
        wanted = {"txid": txid, "confirmations": confirmations}
        async with await self.subscribe("transactions", filter=wanted, since=since) as subscription:
            async for event in subscription:
                yield event
                if is_final(event, confirmations):
                    return

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(monotonic, self._timeout if timeout is None else timeout)

    async def _ask_method(self, method: str, params: Any, timeout: float | None) -> Answer:
        return await self._ask(lambda core, reply: core.call(method, params, reply), self._deadline(timeout), method)

    async def _ask(self, make: Callable[[ClientCore, Reply], OutgoingCall], deadline: Deadline, what: str) -> Answer:
        connection = await self._connected(deadline)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        call = make(self._core, _replies_to(answered))
        try:
            await self._send(connection, call.text, deadline)
            return await _in_time(answered, deadline, what)
        finally:
            self._core.forget(call)

    async def _send(self, connection: AsyncConnection, text: str, deadline: Deadline) -> None:
        connection.post(text)
        if not connection.is_writable and not await _until(connection.drained(), deadline):
            raise CallTimeoutError("the server does not read what is sent")

    async def _connected(self, deadline: Deadline) -> AsyncConnection:
        """Return the connection, if necessary after waiting until the deadline. Raise ClientError if there is none."""
        loop = asyncio.get_running_loop()
        while True:
            self._core.check()
            if self._task is None or self._task.done():  # the first use, or its loop has ended
                self._task = loop.create_task(self._run(), name="dilithion-ws-client")
            if self._connection is not None:
                return self._connection
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.add(waiter)
            try:
                is_in_time = await _until(waiter, deadline)
            finally:
                self._waiters.discard(waiter)
            if not is_in_time:
                last = "" if self._core.last_error is None else f"; last: {self._core.last_error}"
                raise ConnectionLostError(f"no connection to {self._options.url} in time{last}")

    @contextlib.contextmanager
    def _use_core(self) -> Iterator[ClientCore]:
        """Do something with the core, and then what it wants to be done."""
        yield self._core
        for text in self._core.take_outbox():
            if self._connection is not None:
                self._connection.post(text)
        if self._core.next_time != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = None, self._core.next_time
            if self._timer_at is not None:
                pause = max(0.0, self._timer_at - monotonic())
                self._timer = asyncio.get_running_loop().call_later(pause, self._on_time)

    def _on_time(self) -> None:
        with self._use_core() as core:
            self._timer_at = None  # so that the next timer is set
            core.on_time()

    def _on_messages(self, messages: Sequence[str | bytes]) -> None:
        with self._use_core() as core:
            for message in messages:
                core.on_message(message)

    def _notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _run(self) -> None:
        """Connect, and connect again."""
        pause: float | None = 0.0
        while pause is not None:
            await asyncio.sleep(pause)
            try:
                connection = await open_connection(self._options)
            except Exception as error:
                if isinstance(error, ClientError):
                    logger.debug("connecting to %s failed: %s", self._options.url, error)
                else:
                    logger.exception("connecting to %s failed", self._options.url)
                with self._use_core() as core:
                    pause = core.on_connect_failed(error)
            else:
                pause = await self._use(connection)
            self._notify()

    async def _use(self, connection: AsyncConnection) -> float | None:
        """Use one connection to its end. Return the pause before the next one, or None."""
        pause = None
        try:
            self._connection = connection
            with self._use_core() as core:
                is_wanted = core.on_connected()
            if is_wanted:
                self._notify()
                await connection.receive(self._on_messages)
        except ClientError as error:
            logger.warning("the connection to %s can't be used: %s", self._options.url, error)
        except Exception:
            logger.exception("the connection to %s can't be used", self._options.url)
        finally:  # also if the task is cancelled, as at the end of `asyncio.run`
            connection.abort()
            self._connection = None
            with self._use_core() as core:
                pause = core.on_connection_lost(connection.protocol.close_code, connection.protocol.close_reason)
        return pause


def _replies_to(future: asyncio.Future[Answer]) -> Reply:
    def reply(answer: Answer) -> None:
        if not future.done():
            future.set_result(answer)

    return reply


async def _in_time(answered: asyncio.Future[Answer], deadline: Deadline, what: str) -> Answer:
    if not await _until(answered, deadline):
        raise CallTimeoutError(f"no answer to {what} in time")
    return answered.result()


async def _until(future: asyncio.Future[Any], deadline: Deadline) -> bool:
    """Wait until a future is done. Return whether it was in time; otherwise it is cancelled.

    Before Python 3.12, `asyncio.wait_for` returns a result that comes in the same turn of the loop in which its task is
    cancelled, and the cancelling is lost. Here the task waits for a future of its own, so it is cancelled in any case.
    """
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()

    def finish(*_: object) -> None:
        if not finished.done():
            finished.set_result(None)

    future.add_done_callback(finish)
    timer = loop.call_later(deadline.remaining(), finish)
    try:
        await finished
    finally:
        timer.cancel()
        future.remove_done_callback(finish)
        if not future.done():
            future.cancel()
    return not future.cancelled()
