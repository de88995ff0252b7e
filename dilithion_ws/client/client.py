"""The client: calls and subscriptions over one connection, which it renews when it is lost."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from ..errors import RpcError
from ..events.log import Position
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread
from .awaited_reply import AwaitedReply, RefusedBatch, to_params
from .client_connection import ConnectionOptions, check_url
from .places import AfterBlock, Place, as_place
from .reconnecting import ReconnectingConnection, encode
from .subscription import Event, QueueBounds, Subscription
from .subscription_keeper import SubscriptionKeeper

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client"]


T = TypeVar("T")


class Client:
    """Calls methods and subscribes to events of one server.

    Args:
        url: `ws://host:port` or `wss://host:port`.
        user, password: credentials; both or neither.
        ssl_context: for wss: which authorities to trust, a certificate of one's own; default: the system's.
        timeout: seconds for a call, unless it says otherwise.
        connect_timeout: seconds for one attempt to connect.
        idle_timeout: seconds of silence after which the connection counts as lost; more than the server's ping interval.
        backoff: seconds between two attempts to connect: at first and at most. The pause doubles, and is then drawn from
            its second half, so that clients which lost a server together do not come back together.
        max_message_size: bytes of one message from the server.
        max_queued_events, max_queued_bytes: events of one subscription, and the bytes of their messages, that are kept
            for its reader. The server keeps the others.
        wait_for_server: whether to go on trying if the first attempt to connect fails.

    Example:
        >>> with Client("ws://127.0.0.1:8333") as client:  # doctest: +SKIP
        ...     client.call("getblockcount")
        840000
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        backoff: tuple[float, float] = (0.2, 30.0),
        max_message_size: int = 64 << 20,
        max_queued_events: int = 10_000,
        max_queued_bytes: int = 64 << 20,
        wait_for_server: bool = True,
    ) -> None:
        check_url(url)
        if (user is None) != (password is None):
            raise ValueError("user and password belong together")
        self._url = url
        credentials = None if user is None or password is None else (user, password)
        self._settings = ConnectionOptions(
            url, credentials, ssl_context, connect_timeout, idle_timeout, max_message_size
        )
        self._timeout = timeout
        self._keeper = SubscriptionKeeper(QueueBounds(max_queued_events, max_queued_bytes), timeout)
        self._link = ReconnectingConnection(self._settings, backoff, self._keeper, patient=wait_for_server)
        self._keeper.link = self._link

    def __repr__(self) -> str:
        return f"<Client of {self._url}, {'connected' if self.is_connected else 'not connected'}>"

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

    @property
    def is_connected(self) -> bool:
        """Whether the client is connected."""
        return self._link.connection is not None

    @any_thread
    def connect(self, timeout: float | None = None) -> None:
        """Wait until the client is connected. Calls do this by themselves.

        Raises:
            RefusedError: the server refuses this client.
            ConnectionLostError: there was none in time; the client goes on trying.
        """
        self._link.start()
        self._link.connected(Deadline(monotonic, self._settings.timeout if timeout is None else timeout))

    @any_thread
    def close(self) -> None:
        """Close the connection, and end the iterations over subscriptions."""
        self._link.close()
        self._keeper.on_end(None)

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
        return _convert(self.request(method, to_params(params, named), timeout_), as_)

    @any_thread
    def call_with_position(
        self, method: str, /, *params: Any, timeout_: float | None = None, **named: Any
    ) -> tuple[Any, Position | None]:
        """Call a method and return its result, and the position at which a subscription continues that state.

        The position is None if the method has none (`position_of`). See `call`.
        """
        waiter = AwaitedReply()
        deadline = Deadline(monotonic, self._timeout if timeout_ is None else timeout_)
        self._link.start()
        id = self._link.request(method, to_params(params, named), waiter.reply, deadline, with_position=True)
        try:
            result, found = waiter.wait(deadline, method), self._link.positions[id]
        finally:
            self._link.replies.pop(id, None)
            self._link.positions.pop(id, None)
        return result, None if found is None else Position(found["epoch"], found["seq"])

    @any_thread
    def request(self, method: str, params: list[Any] | dict[str, Any], timeout: float | None = None) -> Any:
        """Call a method with its params in a list or a dictionary. See `call`."""
        waiter = AwaitedReply()
        deadline = Deadline(monotonic, self._timeout if timeout is None else timeout)
        self._link.start()
        id = self._link.request(method, params, waiter.reply, deadline)
        try:
            return waiter.wait(deadline, method)
        finally:
            self._link.replies.pop(id, None)

    @any_thread
    def batch(self, calls: Iterable[tuple[str, Sequence[Any]]], timeout: float | None = None) -> list[Any]:
        """Make several calls in one message.

        Args:
            calls: method and params of each.
            timeout: seconds to wait for the answer.

        Returns:
            The results in the order of the calls; an `RpcError` stands in the place of a call that failed.

        Raises:
            RpcError: the server refuses the batch as a whole, such as one that is too large.
        """
        deadline = Deadline(monotonic, self._timeout if timeout is None else timeout)
        waiters = {next(self._link.ids): (AwaitedReply(), method, list(params)) for method, params in calls}
        if not waiters:
            return []
        self._link.start()
        connection = self._link.connected(deadline)
        text = encode(
            [{"jsonrpc": "2.0", "method": m, "params": params, "id": id} for id, (_, m, params) in waiters.items()]
        ).decode()
        refused = RefusedBatch([waiter for waiter, _, _ in waiters.values()])
        try:
            self._link.replies.update((id, waiter.reply) for id, (waiter, _, _) in waiters.items())
            self._link.batches.append(refused.reply)
            connection.send(text, deadline.remaining())
            return [self._outcome(waiter, deadline, refused) for waiter, _, _ in waiters.values()]
        finally:
            self._link.batches.remove(refused.reply)
            for id in waiters:
                self._link.replies.pop(id, None)

    def _outcome(self, waiter: AwaitedReply, deadline: Deadline, refused: RefusedBatch) -> Any:
        try:
            return waiter.wait(deadline, "a batch")
        except RpcError as error:
            if refused.error is not None:
                raise
            return error

    @any_thread
    def notify(self, method: str, *params: Any, **named: Any) -> None:
        """Call a method without requesting an answer. Errors of the method are not reported."""
        deadline = Deadline(monotonic, self._timeout)
        message = {"jsonrpc": "2.0", "method": method, "params": to_params(params, named)}
        self._link.start()
        self._link.connected(deadline).send(encode(message).decode(), deadline.remaining())

    @any_thread
    def subscribe(
        self,
        topic: str,
        *,
        filter: dict[str, Any] | None = None,
        since: Place | tuple[str, int] | Mapping[str, Any] | None = None,
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
        place = None if since is None else as_place(since)
        self._link.start()
        return self._keeper.subscribe(topic, filter, place, mode)

    @any_thread
    def follow_blocks(self, from_height: int | None = None, *, since: Place | None = None) -> Subscription:
        """Subscribe to `blocks` from a height on, after a place that was saved, or from now on."""
        return self.subscribe("blocks", since=since if from_height is None else AfterBlock(from_height - 1))

    @any_thread
    def follow_transaction(self, txid: str, confirmations: int = 6, *, since: Place | None = None) -> Iterator[Event]:
        """Yield the events of a transaction until it has so many confirmations.

        It is `seen`, `confirmed` once for each confirmation, `unconfirmed` by a reorganisation, or `dropped`.
        """
        wanted = {"txid": txid, "confirmations": confirmations}
        with self.subscribe("transactions", filter=wanted, since=since) as subscription:
            for event in subscription:
                yield event
                if event.data["kind"] == "confirmed" and event.data["confirmations"] >= confirmations:
                    return


def _convert(result: Any, kind: Any) -> Any:
    return result if kind is None else msgspec.convert(result, kind, strict=False)
