"""The calls of a client that wait for their answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from ..errors import RpcError

__all__ = ["Answer", "OpenCalls", "OutgoingCall", "Reply", "decode", "encode", "to_rpc_error"]

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(message: Any) -> str:
    """Return a message as JSON. Raise TypeError for what JSON cannot have."""
    try:
        return _encoder.encode(message).decode()
    except UnicodeEncodeError as error:  # a half of a surrogate pair
        raise TypeError(f"{error.object!r} is not a text that can be sent") from None


def decode(message: str | bytes) -> list[Any]:
    """Return the items of a message, one or those of a batch. There are none if it is not JSON."""
    if not isinstance(message, str):
        return []
    try:
        found = _decoder.decode(message)
    except msgspec.DecodeError:
        return []
    return found if isinstance(found, list) else [found]


def to_rpc_error(error: Any) -> RpcError:
    """Return the error that a server has sent."""
    if not isinstance(error, dict):
        return RpcError(0, str(error))
    code = error.get("code")
    return RpcError(code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data"))


class Answer(NamedTuple):
    """The answer to a call: a result or an error.

    Attributes:
        result: what the method returned; for a batch the list of results, with an `RpcError` in the place of each call
            that failed.
        error: an `RpcError` of the server, or why there is no answer.
        position: the position in a topic's log that the result is the state of, as JSON, or None.
    """

    result: Any = None
    error: BaseException | None = None
    position: dict[str, Any] | None = None


Reply = Callable[[Answer], None]
"""Gets the answer to a call, once. It resolves what waits for it, and does nothing else."""


class OutgoingCall:
    """A call, or a batch of calls, from when it is made until it is answered.

    Attributes:
        text: the message to send.
    """

    def __init__(self, requests: list[dict[str, Any]], reply: Reply, is_batch: bool) -> None:
        self.text = encode(requests if is_batch else requests[0])
        self._ids = [request["id"] for request in requests]
        self._reply = reply
        self._is_batch = is_batch
        self._answers: dict[int, Answer] = {}

    def _outcome(self) -> Answer:
        found = [self._answers[id] for id in self._ids]
        return Answer([one.error or one.result for one in found]) if self._is_batch else found[0]


class OpenCalls:
    """Gives each answer to its call. Not thread-safe."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._open: dict[int, OutgoingCall] = {}  # by the id of each answer that is missing

    def __len__(self) -> int:
        return len(self._open)

    def open(self, method: str, params: Any, reply: Reply) -> OutgoingCall:
        """Return a call to send. `reply` gets its answer."""
        return self._add(OutgoingCall([self._request(method, params)], reply, False))

    def open_batch(self, calls: Sequence[tuple[str, Any]], reply: Reply) -> OutgoingCall:
        """Return a batch of calls, at least one, to send. `reply` gets all answers as one."""
        return self._add(OutgoingCall([self._request(method, params) for method, params in calls], reply, True))

    def forget(self, call: OutgoingCall) -> None:
        """Ignore answers that come from now on."""
        for id in call._ids:
            self._open.pop(id, None)

    def answer(self, item: dict[str, Any]) -> None:
        """Pass an answer on. Ignore one that belongs to no open call."""
        id, error = item.get("id"), item.get("error")
        failure = None if error is None else to_rpc_error(error)
        if id is None and failure is not None:
            self._refuse_a_batch(failure)
            return
        if not isinstance(id, int) or (call := self._open.pop(id, None)) is None:
            return  # something of the host's, or the answer to a call that was given up
        call._answers[id] = Answer(item.get("result"), failure, item.get("position"))
        if len(call._answers) == len(call._ids):
            call._reply(call._outcome())

    def lose_all(self, error: BaseException) -> None:
        """Answer all calls with an error, as nothing else will."""
        calls = list(dict.fromkeys(self._open.values()))
        self._open.clear()
        for call in calls:
            call._reply(Answer(error=error))

    def _refuse_a_batch(self, failure: RpcError) -> None:
        """Pass an error without an id to the oldest batch. Answers come in any order, but such errors come at once."""
        batch = next((call for call in self._open.values() if call._is_batch), None)
        if batch is not None:
            self.forget(batch)
            batch._reply(Answer(error=failure))

    def _request(self, method: str, params: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "method": method, "params": params, "id": next(self._ids)}

    def _add(self, call: OutgoingCall) -> OutgoingCall:
        self._open.update((id, call) for id in call._ids)
        return call
