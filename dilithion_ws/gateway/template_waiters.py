"""Answer `getblocktemplate` with a `longpollid`: the gateway waits for the next block, and the node does not.

A node keeps a thread for each miner that waits. Four of them make a Bitcoin Core node deaf to everybody else. Here they
wait like those who call `waitfornewblock`, without a thread, and the template is asked for when there is something new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any

import msgspec

from ..util.clock import Clock, Deadline
from ..util.thread_contracts import any_thread
from .block_waiters import BlockWaiters, Tip
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["METHOD", "TemplateWaiters", "without_longpollid"]

METHOD = "getblocktemplate"

_STOPPING = "the gateway stops"

_LONGEST = 60.0
"""Seconds after which a template is made anyway, for the transactions that have come: as Bitcoin Core does."""
_THREADS = 2
_HASH = 64
_NAME, _NULL = "template_request", b"null"

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode


def without_longpollid(params: bytes) -> tuple[bytes, str | None]:
    """Return params without the `longpollid`, and the hash of the tip that it begins with.

    The hash is None if the node would not wait, and empty if the `longpollid` is not a text. The node waits for one of
    any type but null, and finds it in the first param: by position, by name, or in the `args` of mixed params.
    """
    if params[:1] not in (b"[", b"{"):
        return params, None
    try:
        if params[:1] == b"[":
            values = _decode_list(params)
            found = _take(values, 0)
            return msgspec.json.encode(values), found
        named = _decode_object(params)
        found = _take(named, _NAME)
        if "args" in named:
            arguments = _decode_list(named["args"])
            found = _take(arguments, 0) or found
            named["args"] = _raw(arguments)
        return msgspec.json.encode(named), found
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return params, None  # the node does not understand it either


def _take(params: Any, key: Any) -> str | None:
    """Remove the `longpollid` of one param. Return its hash; see `without_longpollid`."""
    try:
        members = _decode_object(params[key])
    except (LookupError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    given = bytes(members.pop("longpollid", _NULL))
    params[key] = _raw(members)  # also without one, so that a member that occurs twice is not read in two ways
    mode = bytes(members.get("mode", _NULL))
    if given == _NULL or (mode != _NULL and _text(mode) != "template"):
        return None  # the node answers a proposal, and refuses another mode, before it looks at the longpollid
    return _text(given)[:_HASH]


def _text(value: bytes) -> str:
    """Return the text that a JSON value is, or an empty one if it is none."""
    try:
        return str(_decode_any(value)) if value[:1] == b'"' else ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


class TemplateWaiters:
    """The miners that wait for another template.

    Args:
        waiters: wait for blocks.
        clock: seconds that never go backwards.
    """

    def __init__(self, waiters: BlockWaiters, clock: Clock) -> None:
        self._waiters = waiters
        self._clock = clock
        self._lock = threading.Lock()  # guards the two below
        self._open: set[Future[Any]] = set()
        self._is_stopped = False
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dilithion-ws-gateway-templates")

    @any_thread
    def wait(self, previous: str, deadline: Deadline, fetch: Callable[[], Any]) -> Future[Any]:
        """Return a future of the template, which is fetched once the tip is another one.

        Args:
            previous: the hash of the tip that the miner knows; empty for the present one.
            deadline: of the call.
            fetch: asks the node. It may raise RpcError.
        """
        tip = self._waiters.tip()
        previous = previous or (tip.hash if tip is not None else "")
        found: Future[Any] = Future()
        with self._lock:
            if self._is_stopped:
                raise UpstreamError(UpstreamErrorKind.DOWN, _STOPPING)
            self._open.add(found)
        found.add_done_callback(self._close)
        waiting = self._waiters.wait(lambda tip: tip.hash != previous, min(_LONGEST, deadline.remaining() / 2))

        def on_tip(done: Future[Tip]) -> None:
            if not done.cancelled() and not found.cancelled():
                with self._lock:
                    if not self._is_stopped:
                        self._threads.submit(self._fetch, found, fetch)

        waiting.add_done_callback(on_tip)
        found.add_done_callback(lambda done: waiting.cancel() if done.cancelled() else None)
        return found

    @any_thread
    def stop(self) -> None:
        """End the threads, and the calls that wait."""
        with self._lock:
            self._is_stopped = True
            waiting = list(self._open)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for found in waiting:
            try:
                found.set_exception(UpstreamError(UpstreamErrorKind.DOWN, _STOPPING))
            except InvalidStateError:
                pass  # its template came just now, or its client has gone

    def _close(self, found: Future[Any]) -> None:
        with self._lock:
            self._open.discard(found)

    @staticmethod
    def _fetch(found: Future[Any], fetch: Callable[[], Any]) -> None:
        if found.done():
            return
        try:
            found.set_result(fetch())
        except InvalidStateError:
            pass  # the gateway stops, or its client has gone
        except BaseException as error:
            try:
                found.set_exception(error)
            except InvalidStateError:
                pass
