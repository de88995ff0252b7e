"""The client: calls and subscriptions over one connection, which it renews when it is lost."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import RpcError
from ..events.log import Position
from ..util.clock import Deadline, monotonic
from ..util.thread_contracts import any_thread
from .awaited_reply import AwaitedReply, Reply, to_params
from .client_connection import ConnectionOptions, check_url
from .exceptions import ClientError
from .reconnecting import ReconnectingConnection, encode
from .subscription import RETRYABLE, Subscription

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client"]

logger = logging.getLogger("dilithion_ws.client")


_RETRY_SECONDS = 1.0


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
        max_queued_events: events of one subscription that are kept for its reader.

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
        self._most_events = max_queued_events
        self._link = ReconnectingConnection(self._settings, backoff, _Listener(self))
        self._lock = threading.Lock()  # guards all below
        self._subscriptions: dict[int, Subscription] = {}
        self._by_id: dict[str, Subscription] = {}
        self._pending: set[int] = set()  # subscriptions whose reply is awaited

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
        self._ended(None)

    @any_thread
    def call(self, method: str, *params: Any, timeout: float | None = None, **named: Any) -> Any:
        """Call a method and return its result.

        Args:
            method: its name.
            params: by position, or
            named: by name.
            timeout: seconds to wait for the answer.

        Raises:
            RpcError: what the server answered with.
            CallTimeoutError, ConnectionLostError, RefusedError, EventsLostError: see there.
        """
        return self.request(method, to_params(params, named), timeout)

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
        refused = _Refused([waiter for waiter, _, _ in waiters.values()])
        try:
            self._link.replies.update((id, waiter.reply) for id, (waiter, _, _) in waiters.items())
            self._link.batches.append(refused.reply)
            connection.send(text, deadline.remaining())
            return [self._outcome(waiter, deadline, refused) for waiter, _, _ in waiters.values()]
        finally:
            self._link.batches.remove(refused.reply)
            for id in waiters:
                self._link.replies.pop(id, None)

    def _outcome(self, waiter: AwaitedReply, deadline: Deadline, refused: _Refused) -> Any:
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
        since: Position | tuple[str, int] | None = None,
        mode: str | None = None,
    ) -> Subscription:
        """Subscribe to a topic. The subscription continues after a lost connection.

        Args:
            topic: its name.
            filter: which events, such as `{"kind": "added"}`.
            since: the position after which to start (`Event.position`); None for now.
            mode: `all`, or `latest` to skip to the newest.

        Raises:
            RpcError: the server refuses, such as for an unknown topic.
        """
        position = None if since is None else Position(*since)
        subscription = Subscription(topic, filter, mode, self._most_events, self._subscribe_again, self._unsubscribe)
        deadline = Deadline(monotonic, self._timeout)
        self._link.start()
        with self._lock:
            self._subscriptions[id(subscription)] = subscription
        try:
            while True:
                waiter = AwaitedReply()
                self._subscribe(subscription, position, waiter.reply, deadline)
                try:
                    waiter.wait(deadline, "subscribe")
                    return subscription
                except RpcError as error:
                    pause = _pause(error)
                    if error.code not in RETRYABLE or deadline.remaining() < pause:
                        raise
                    threading.Event().wait(pause)
        except BaseException:
            subscription.finish(None)
            with self._lock:
                self._subscriptions.pop(id(subscription), None)
            raise

    # Requests

    def _subscribe(
        self, subscription: Subscription, since: Position | None, reply: Reply, deadline: Deadline | None
    ) -> None:
        def answered(result: Any, error: BaseException | None) -> None:
            with self._lock:
                self._pending.discard(id(subscription))
            if error is None and subscription.is_closed:
                self._end(result["subscription"])  # its caller has given up
            elif error is None:
                subscription.begin(result, since)
                self._by_id[result["subscription"]] = subscription
            reply(result, error)

        with self._lock:
            if id(subscription) in self._pending:
                return  # the reading thread and a reader of events both noticed that it has to be made again
            self._pending.add(id(subscription))
        try:
            self._link.request("subscribe", subscription.params(since), answered, deadline)
        except BaseException:
            with self._lock:
                self._pending.discard(id(subscription))
            raise

    def _subscribe_again(self, subscription: Subscription) -> None:
        """Continue after the last event that was received. It does not wait for the answer."""

        def answered(result: Any, error: BaseException | None) -> None:
            # A lost connection does not end a subscription: the next connection renews all of them.
            if isinstance(error, RpcError) and subscription.ended(error.to_object()):
                self._schedule(_pause(error), lambda: self._subscribe_again(subscription))

        live = subscription.id is not None and self._by_id.get(subscription.id) is subscription
        if subscription.is_closed or live:
            return
        try:
            self._subscribe(subscription, subscription.last_received, answered, None)
        except ClientError as error:
            logger.debug("subscribing again to %s: %s", subscription.topic, error)

    def _schedule(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions.pop(id(subscription), None)
        self._stop_events(subscription, lambda: None)

    def _stop_events(self, subscription: Subscription, then: Callable[[], None]) -> None:
        """Unsubscribe at the server. Call `then` after its answer, or if there is no connection."""
        found = subscription.id
        if found is not None and self._by_id.pop(found, None) is not None:
            self._end(found, then)

    def _end(self, id: str, then: Callable[[], None] = lambda: None) -> None:
        try:
            self._link.request("unsubscribe", [id], lambda result, error: then(), None)
        except ClientError:
            then()  # without a connection there is nothing to end

    # In the reading thread; see `_Listener`

    def _opened(self) -> None:
        """Renew all subscriptions over a new connection."""
        with self._lock:
            self._by_id.clear()
            subscriptions = list(self._subscriptions.values())
        for subscription in subscriptions:
            if subscription.last_received is not None and not subscription.is_paused:
                self._subscribe_again(subscription)

    def _ended(self, failure: ClientError | None) -> None:
        """End all subscriptions, because no other connection will be made."""
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        for subscription in subscriptions:
            subscription.finish(failure)

    def _notified(self, params: dict[str, Any]) -> None:
        subscription = self._by_id.get(params.get("subscription", ""))
        error = params.get("error")
        if subscription is None:
            return  # ended a moment ago
        if error is not None:
            self._by_id.pop(params["subscription"], None)
            if subscription.ended(error):
                self._subscribe_again(subscription)
        elif not subscription.notify(params):
            self._stop_events(subscription, subscription.pause)


class _Listener:
    """Passes reports of a connection to its client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def on_open(self) -> None:
        self._client._opened()

    def on_event(self, params: dict[str, Any]) -> None:
        self._client._notified(params)

    def on_end(self, failure: ClientError | None) -> None:
        self._client._ended(failure)


class _Refused:
    """Answers all calls of a batch with the error that the server returned for the whole batch."""

    def __init__(self, waiters: list[AwaitedReply]) -> None:
        self._waiters = waiters
        self.error: BaseException | None = None

    def reply(self, result: Any, error: BaseException | None) -> None:
        self.error = error
        for waiter in self._waiters:
            waiter.reply(None, error)


def _pause(error: RpcError) -> float:
    """Return the seconds after which the server advises to try again."""
    data = error.data if isinstance(error.data, dict) else {}
    wanted = data.get("retry_after_ms")
    return max(_RETRY_SECONDS, wanted / 1000) if isinstance(wanted, (int, float)) else _RETRY_SECONDS
