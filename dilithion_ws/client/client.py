"""The synchronous client: calls and subscriptions over one connection, which it renews when it is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..util.clock import Deadline, monotonic
from ..util.position import Position
from ..util.thread_contracts import any_thread
from .base_client import BaseClient, Since, blocks_since, is_final, position_of, result_of, to_params
from .client_core import notification
from .connection_thread import AwaitedAnswer, ConnectionThread
from .open_calls import Answer
from .places import Place
from .subscription import Subscription
from .subscription_state import Event

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client"]


T = TypeVar("T")


class Client(BaseClient):
    """Calls methods and subscribes to events of one server, from any number of threads. Options: see `BaseClient`.

    Example:
        >>> with Client("ws://127.0.0.1:8333") as client:  # doctest: +SKIP
        ...     client.call("getblockcount")
        840000
    """

    def _prepare(self) -> None:
        self._thread = ConnectionThread(self._options, self._core)

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @any_thread
    def connect(self, timeout: float | None = None) -> None:
        """Wait until the client is connected. Calls do this by themselves.

        Args:
            timeout: seconds to wait; None waits as long as one attempt may take.

        Raises:
            RefusedError: the server refuses this client.
            ConnectionLostError: there was none in time; the client goes on trying.
        """
        self._thread.start()
        self._thread.wait_connected(Deadline(monotonic, self._options.timeout if timeout is None else timeout))

    @any_thread
    def close(self) -> None:
        """Close the connection, and end the iterations over subscriptions."""
        self._thread.close()

    @overload
    def call(self, method: str, /, *params: Any, as_: type[T], timeout_: float | None = None, **named: Any) -> T: ...

    @overload
    def call(self, method: str, /, *params: Any, timeout_: float | None = None, **named: Any) -> Any: ...

    @any_thread
    def call(self, method: str, /, *params: Any, as_: Any = None, timeout_: float | None = None, **named: Any) -> Any:
        """Call a method and return its result.

        Args:
            method: its name.
            params: by position, or
            named: by name.
            as_: the type of the result, as msgspec converts it: a dataclass, a Struct, a TypedDict. Without it, the
                result is what JSON has; numbers that are not integers are `Decimal`, with all digits.
            timeout_: seconds to wait for the answer. It ends in `_`, as a param may be called `timeout`.

        Raises:
            RpcError: what the server answered with.
            CallTimeoutError, ConnectionLostError, RefusedError: see there.
            msgspec.ValidationError: the result is not of the type `as_`.
        """
        return result_of(self._ask(method, to_params(params, named), timeout_), as_)

    @any_thread
    def call_with_position(
        self, method: str, /, *params: Any, timeout_: float | None = None, **named: Any
    ) -> tuple[Any, Position | None]:
        """Call a method and return its result, and the position at which a subscription continues that state.

        The position is None if the method has none (`position_of`). See `call`.
        """
        answer = self._ask(method, to_params(params, named), timeout_)
        return result_of(answer, None), position_of(answer)

    @any_thread
    def request(self, method: str, params: list[Any] | dict[str, Any], timeout: float | None = None) -> Any:
        """Call a method with its params in a list or a dictionary. See `call`."""
        return result_of(self._ask(method, params, timeout), None)

    def _ask(self, method: str, params: Any, timeout: float | None) -> Answer:
        return self._thread.ask(lambda core, reply: core.call(method, params, reply), self._deadline(timeout), method)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(monotonic, self._timeout if timeout is None else timeout)

    @any_thread
    def batch(self, calls: Iterable[tuple[str, Sequence[Any]]], timeout: float | None = None) -> list[Any]:
        """Make several calls in one message.

        Args:
            calls: method and params of each.
            timeout: seconds to wait for the answer.

        Returns:
            The results in the order of the calls; an `RpcError` stands in the place of a call that failed.

        Raises:
            RpcError: the server refuses the batch as a whole.
        """
        wanted = list(calls)
        if not wanted:
            return []
        deadline = self._deadline(timeout)
        answer = self._thread.ask(lambda core, reply: core.batch(wanted, reply), deadline, "a batch")
        return result_of(answer, list)  # type: ignore[no-any-return]

    @any_thread
    def notify(self, method: str, *params: Any, **named: Any) -> None:
        """Call a method without requesting an answer. Errors of the method are not reported."""
        deadline = self._deadline(None)
        text = notification(method, to_params(params, named))
        self._thread.start()
        self._thread.wait_connected(deadline).send(text, deadline.remaining())

    @any_thread
    def subscribe(
        self,
        topic: str,
        *,
        filter: dict[str, Any] | None = None,
        since: Since = None,
        mode: str | None = None,
    ) -> Subscription:
        """Subscribe to a topic. The subscription continues after a lost connection.

        Args:
            topic: its name.
            filter: which events, such as `{"kind": "added"}`.
            since: the place after which to start (`Event.since`): a position, or for blocks and transactions a
                `AfterBlock`; also what one is as JSON. None for now.
            mode: `all`, or `latest` to skip to the newest.

        Raises:
            RpcError: the server refuses, such as for an unknown topic.
        """
        state, place = self._new_subscription(topic, filter, mode, since)
        subscription = Subscription(state, self._thread)
        answer, deadline = AwaitedAnswer(), self._deadline(None)
        self._thread.start()
        self._thread.wait_connected(deadline)
        try:
            with self._thread.core() as core:
                core.subscribe(state, place, answer.reply, deadline.at)
            result_of(answer.wait(deadline, f"subscribe {topic}"), None)
        except BaseException:
            subscription.close()
            raise
        return subscription

    @any_thread
    def follow_blocks(self, from_height: int | None = None, *, since: Place | None = None) -> Subscription:
        """Subscribe to `blocks` from a height on, after a place that was saved, or from now on."""
        return self.subscribe("blocks", since=blocks_since(from_height, since))

    @any_thread
    def follow_transaction(self, txid: str, confirmations: int = 6, *, since: Place | None = None) -> Iterator[Event]:
        """Yield the events of a transaction until it has so many confirmations.

        It is `seen`, `confirmed` once for each confirmation, `unconfirmed` by a reorganisation, or `dropped`.
        """
        wanted = {"txid": txid, "confirmations": confirmations}
        with self.subscribe("transactions", filter=wanted, since=since) as subscription:
            for event in subscription:
                yield event
                if is_final(event, confirmations):
                    return
