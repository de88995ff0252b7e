"""Answer `getblocktemplate` with a `longpollid`: the gateway waits for the next block, and the node does not.

A node keeps a thread for each miner that waits. Four of them make a Bitcoin Core node deaf to everybody else. Here they
wait like those who call `waitfornewblock`, without a thread, and the template is asked for when there is something new.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from ..util.clock import Clock, Deadline
from ..util.thread_contracts import any_thread
from .block_waiters import BlockWaiters, Tip

__all__ = ["TemplateWaiters", "without_longpollid"]

METHOD = "getblocktemplate"

_LONGEST = 60.0
"""Seconds after which a template is made anyway, for the transactions that have come: as Bitcoin Core does."""
_THREADS = 2

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def without_longpollid(params: bytes) -> tuple[bytes, str]:
    """Return params without the `longpollid`, and that, or nothing if they have none.

    It is in the first param, an object, by position or under the name `template_request`.
    """
    try:
        is_list = params[:1] == b"["
        outer: Any = _decode_list(params) if is_list else _decode_object(params)
        key: Any = 0 if is_list else "template_request"
        request = _decode_object(outer[key])
        text = _decode_text(request.pop("longpollid"))
        outer[key] = msgspec.Raw(msgspec.json.encode(request))
        return msgspec.json.encode(outer), text
    except (msgspec.MsgspecError, LookupError, UnicodeDecodeError, RecursionError):
        return params, ""


class TemplateWaiters:
    """The miners that wait for another template.

    Args:
        waiters: wait for blocks.
        clock: seconds that never go backwards.
    """

    def __init__(self, waiters: BlockWaiters, clock: Clock) -> None:
        self._waiters = waiters
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dilithion-ws-gateway-templates")

    @any_thread
    def wait(self, longpollid: str, deadline: Deadline, fetch: Callable[[], Any]) -> Future[Any]:
        """Return a future of the template, which is fetched once the tip is not that of the `longpollid` any more.

        Args:
            longpollid: begins with the hash of the tip, in 64 digits.
            deadline: of the call.
            fetch: asks the node. It may raise RpcError.
        """
        previous = longpollid[:64]
        found: Future[Any] = Future()
        waiting = self._waiters.wait(lambda tip: tip.hash != previous, min(_LONGEST, deadline.remaining() / 2))

        def on_tip(done: Future[Tip]) -> None:
            if not done.cancelled() and not found.cancelled():
                self._threads.submit(self._fetch, found, fetch)

        waiting.add_done_callback(on_tip)
        found.add_done_callback(lambda done: waiting.cancel() if done.cancelled() else None)
        return found

    @any_thread
    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _fetch(found: Future[Any], fetch: Callable[[], Any]) -> None:
        if not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(fetch())
        except BaseException as error:
            found.set_exception(error)
