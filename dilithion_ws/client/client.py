"""The client: calls over one connection, which is made anew when it is lost."""

from __future__ import annotations

import itertools
import logging
import random
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from ..clock import Deadline, monotonic
from ..errors import JsonRpcCode, RpcError
from ..events.log import Position
from .errors import ClientError, ConnectionLostError, RefusedError
from .replies import Reply, Waiter, to_params
from .subscription import Subscription
from .wire import Settings, Wire

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client"]

logger = logging.getLogger("dilithion_ws.client")

_encode = msgspec.json.Encoder(decimal_format="number").encode

_FINAL_CODES = (4401, 4403, 4408)
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
        most_message: bytes of one message from the server.
        most_events: events of one subscription that are kept for its reader.

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
        most_message: int = 64 << 20,
        most_events: int = 10_000,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"{url[:100]!r} is no address of a server: ws://host:port or wss://host:port")
        if (user is None) != (password is None):
            raise ValueError("user and password belong together")
        self._url = url
        credentials = None if user is None or password is None else (user, password)
        self._settings = Settings(url, credentials, ssl_context, connect_timeout, idle_timeout, most_message)
        self._timeout = timeout
        self._backoff = backoff
        self._most_events = most_events
        self._ids = itertools.count(1)
        self._changed = threading.Condition()  # guards all below
        self._wire: Wire | None = None
        self._failure: ClientError | None = None
        self._closing = False
        self._replies: dict[int, Reply] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._by_id: dict[str, Subscription] = {}
        self._pending: set[int] = set()  # subscriptions whose reply is awaited
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Client of {self._url}, {'connected' if self.is_connected else 'not connected'}>"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._wire is not None

    def connect(self, timeout: float | None = None) -> None:
        """Waits until there is a connection; calls do so by themselves.

        Raises:
            RefusedError: the server does not want this client.
            ConnectionLostError: there was none in time; the client goes on trying.
        """
        self._connected(Deadline(monotonic, self._settings.timeout if timeout is None else timeout))

    def close(self) -> None:
        """Ends all; iterations over subscriptions end too."""
        with self._changed:
            self._closing = True
            wire, thread = self._wire, self._thread
            self._changed.notify_all()
        if wire is not None:
            wire.shut()
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._settings.timeout + 1.0)

    def call(self, method: str, *params: Any, timeout: float | None = None, **named: Any) -> Any:
        """Calls a method and returns its result.

        Args:
            method: its name.
            params: by position, or
            named: by name.
            timeout: seconds to wait for the answer.

        Raises:
            RpcError: what the server answered with.
            CallTimeoutError, ConnectionLostError, RefusedError, EventsLostError: see there.
        """
        waiter = Waiter()
        seconds = self._timeout if timeout is None else timeout
        self._request(method, to_params(params, named), waiter.reply, Deadline(monotonic, seconds))
        return waiter.wait(seconds, method)

    def batch(self, calls: Iterable[tuple[str, Sequence[Any]]], timeout: float | None = None) -> list[Any]:
        """Makes several calls in one message.

        Args:
            calls: method and params of each.
            timeout: seconds to wait for the answer.

        Returns:
            The results in the order of the calls; an `RpcError` stands in the place of a call that failed.
        """
        seconds = self._timeout if timeout is None else timeout
        deadline = Deadline(monotonic, seconds)
        waiters: list[Waiter] = []
        requests = []
        wire = self._connected(deadline)
        for method, params in calls:
            waiter, id = Waiter(), next(self._ids)
            waiters.append(waiter)
            self._replies[id] = waiter.reply
            requests.append({"jsonrpc": "2.0", "method": method, "params": list(params), "id": id})
        if requests:
            wire.send(_encode(requests).decode(), deadline.remaining())
        results = []
        for waiter in waiters:
            try:
                results.append(waiter.wait(deadline.remaining(), "a batch"))
            except RpcError as error:
                results.append(error)
        return results

    def notify(self, method: str, *params: Any, **named: Any) -> None:
        """Calls a method without wanting an answer; nobody tells whether it worked."""
        deadline = Deadline(monotonic, self._timeout)
        message = {"jsonrpc": "2.0", "method": method, "params": to_params(params, named)}
        self._connected(deadline).send(_encode(message).decode(), deadline.remaining())

    def subscribe(
        self,
        topic: str,
        *,
        filter: dict[str, Any] | None = None,
        since: Position | tuple[str, int] | None = None,
        mode: str | None = None,
    ) -> Subscription:
        """Subscribes to a topic; the subscription survives lost connections.

        Args:
            topic: its name.
            filter: which events, such as `{"kind": "added"}`.
            since: behind which place (`Event.position`); None for from now on.
            mode: `all`, or `latest` to skip to the newest.

        Raises:
            RpcError: the server refuses, such as for an unknown topic.
        """
        place = None if since is None else Position(*since)
        subscription = Subscription(topic, filter, mode, self._most_events, self._subscribe_again, self._unsubscribe)
        deadline = Deadline(monotonic, self._timeout)
        with self._changed:
            self._subscriptions[id(subscription)] = subscription
        try:
            while True:
                waiter = Waiter()
                self._subscribe(subscription, place, waiter.reply)
                try:
                    waiter.wait(deadline.remaining(), "subscribe")
                    return subscription
                except RpcError as error:
                    if error.code != JsonRpcCode.SERVER_BUSY or deadline.remaining() < _RETRY_SECONDS:
                        raise
                    threading.Event().wait(_RETRY_SECONDS)
        except BaseException:
            with self._changed:
                self._subscriptions.pop(id(subscription), None)
            raise

    # Requests

    def _request(self, method: str, params: Any, reply: Reply, deadline: Deadline) -> None:
        """Sends a call whose answer, or the loss of the connection, goes to `reply`."""
        wire = self._connected(deadline)
        id = next(self._ids)
        text = _encode({"jsonrpc": "2.0", "method": method, "params": params, "id": id}).decode()
        self._replies[id] = reply
        try:
            wire.send(text, deadline.remaining())
        except BaseException:
            self._replies.pop(id, None)
            raise
        # Lost meanwhile? The reading thread may have passed the list before this was in it.
        if self._wire is not wire and self._replies.pop(id, None) is not None:
            reply(None, ConnectionLostError("the connection was lost before the answer came"))

    def _connected(self, deadline: Deadline) -> Wire:
        with self._changed:
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name="dilithion-ws-client", daemon=True)
                self._thread.start()
            while self._wire is None:
                if self._failure is not None:
                    raise self._failure
                if self._closing:
                    raise ConnectionLostError("the client is closed")
                if not self._changed.wait(deadline.remaining()):
                    raise ConnectionLostError(f"no connection to {self._url} in time")
            return self._wire

    def _subscribe(self, subscription: Subscription, since: Position | None, reply: Reply) -> None:
        def answered(result: Any, error: BaseException | None) -> None:
            with self._changed:
                self._pending.discard(id(subscription))
            if error is None:
                subscription.begin(result, since)
                self._by_id[result["subscription"]] = subscription
            reply(result, error)

        with self._changed:
            if id(subscription) in self._pending:
                return  # the reading thread and a reader of events both noticed that it has to be made again
            self._pending.add(id(subscription))
        try:
            self._request("subscribe", subscription.params(since), answered, Deadline(monotonic, self._timeout))
        except BaseException:
            with self._changed:
                self._pending.discard(id(subscription))
            raise

    def _subscribe_again(self, subscription: Subscription) -> None:
        """Goes on behind the last event that came; never waits for the answer."""

        def answered(result: Any, error: BaseException | None) -> None:
            # A lost connection is no end: all subscriptions are made again once there is another.
            if isinstance(error, RpcError) and subscription.ended(error.to_object()):
                self._later(lambda: self._subscribe_again(subscription))

        try:
            if not subscription.is_closed:
                self._subscribe(subscription, subscription.reached, answered)
        except ClientError as error:
            logger.debug("subscribing again to %s: %s", subscription.topic, error)

    def _later(self, action: Callable[[], None]) -> None:
        timer = threading.Timer(_RETRY_SECONDS, action)
        timer.daemon = True
        timer.start()

    def _unsubscribe(self, subscription: Subscription) -> None:
        with self._changed:
            self._subscriptions.pop(id(subscription), None)
        self._stop_events(subscription, lambda: None)

    def _stop_events(self, subscription: Subscription, then: Callable[[], None]) -> None:
        """Asks the server for no more events; `then` is called once it has agreed, or nobody is left to agree."""
        found = subscription.id
        if found is not None and self._by_id.pop(found, None) is not None and self._wire is not None:
            try:
                deadline = Deadline(monotonic, self._timeout)
                self._request("unsubscribe", [found], lambda result, error: then(), deadline)
            except ClientError:
                then()

    # The reading thread

    def _run(self) -> None:
        pause = self._backoff[0]
        while not self._closing:
            try:
                wire = Wire(self._settings)
            except RefusedError as error:
                self._give_up(error)
                return
            except ClientError as error:
                logger.debug("connecting to %s failed: %s", self._url, error)
            else:
                pause = self._backoff[0]
                if not self._converse(wire):
                    return
            with self._changed:
                if not self._closing:
                    self._changed.wait(pause * random.uniform(0.5, 1.0))
            pause = min(self._backoff[1], pause * 2)
        self._give_up(ConnectionLostError("the client is closed"))

    def _converse(self, wire: Wire) -> bool:
        """Reads one connection to its end; whether to make another."""
        self._by_id.clear()
        with self._changed:
            self._wire = wire
            subscriptions = list(self._subscriptions.values())
            self._changed.notify_all()
        if self._closing:
            wire.shut()
        try:
            for subscription in subscriptions:
                if subscription.reached is not None and not subscription.is_behind:
                    self._subscribe_again(subscription)
            for message in wire.messages():
                self._receive(message)
        except ClientError as error:
            logger.warning("the connection to %s can't be used: %s", self._url, error)
        except Exception:
            logger.exception("the connection to %s can't be used", self._url)
        finally:
            with self._changed:
                self._wire = None
            wire.shut()
            wire.close()
        lost = ConnectionLostError(f"the connection was lost: {wire.close_code} {wire.close_reason}".rstrip())
        for id in list(self._replies):
            if (reply := self._replies.pop(id, None)) is not None:
                reply(None, lost)
        if wire.close_code in _FINAL_CODES:
            self._give_up(RefusedError(wire.close_code, wire.close_reason))
            return False
        return True

    def _receive(self, message: str | bytes) -> None:
        found = msgspec.json.decode(message)
        for item in found if isinstance(found, list) else [found]:
            if not isinstance(item, dict):
                continue
            if item.get("method") == "subscription":
                self._notified(item["params"])
                continue
            reply = self._replies.pop(item.get("id"), None)  # type: ignore[arg-type]
            if reply is None:
                continue  # a broadcast, or the answer to a call that was given up
            error = item.get("error")
            if error is None:
                reply(item.get("result"), None)
            else:
                reply(None, RpcError(error.get("code", 0), error.get("message", ""), error.get("data")))

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
            self._stop_events(subscription, subscription.fall_behind)

    def _give_up(self, failure: ClientError) -> None:
        with self._changed:
            if not self._closing:
                self._failure = failure
            subscriptions = list(self._subscriptions.values())
            self._changed.notify_all()
        for subscription in subscriptions:
            subscription.finish(None if self._closing else failure)
