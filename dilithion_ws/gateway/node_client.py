"""Calls to the node: in its dialect, under the gateway's own ids, one by one or many in one request."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from .. import JsonRpcCode, RpcError
from ..util.thread_contracts import any_thread
from .dialects.base import Dialect
from .dialects.bitcoin_core import CORE
from .dialects.detection import PROBE, detect_dialect
from .dialects.dilithion import DILITHION
from .http_upstream import HttpPoster
from .response_parser import Outcome, UpstreamReply, read_batch, read_one
from .upstream_errors import UpstreamError, UpstreamErrorKind

__all__ = ["Call", "NodeClient", "CircuitBreaker"]

logger = logging.getLogger("dilithion_ws.gateway")

Call = tuple[str, bytes]
"""A method and its params as JSON, empty for none."""

_LIMITS = (UpstreamErrorKind.LIMITED, UpstreamErrorKind.METHOD_LIMITED)
_HARMLESS = {
    UpstreamErrorKind.LOST: UpstreamErrorKind.BROKEN_OFF,
    UpstreamErrorKind.SLOW: UpstreamErrorKind.SLOW_READ,
}
"""What becomes of an error if the call only reads."""

_HEADERS_SIZE = 1024
_MAX_PAUSE = 900.0


class CircuitBreaker:
    """Pauses calls: repeated failed logins would lock out every client of the node at the gateway's address.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._until = 0.0
        self._kind = UpstreamErrorKind.REFUSED
        self._refused = 0

    @any_thread
    def check(self) -> None:
        """Raise UpstreamError during a pause."""
        with self._lock:
            left = self._until - self._clock()
            if left > 0:
                raise UpstreamError(self._kind, retry=left)

    @any_thread
    def reset(self) -> None:
        """End a pause, since another node is used now."""
        with self._lock:
            self._until, self._refused = 0.0, 0

    @any_thread
    def record(self, outcome: Outcome) -> None:
        """Record an outcome, and pause if it demands that."""
        if not isinstance(outcome, UpstreamError):
            with self._lock:
                self._refused = 0
        elif outcome.pause and outcome.kind not in _LIMITS:
            with self._lock:
                pause = outcome.pause
                if outcome.kind is UpstreamErrorKind.REFUSED:
                    pause = min(pause * 2**self._refused, _MAX_PAUSE)
                    self._refused = min(self._refused + 1, 10)
                self._until, self._kind = self._clock() + pause, outcome.kind
            logger.warning("no calls to the node for %g s: %s", pause, outcome.message)


class _BatchEntry(NamedTuple):
    """A call within a batch: its position among the calls, its id for the node, and its request as JSON."""

    position: int
    id: int
    request: bytes
    method: str


class NodeClient:
    """Makes calls to the node. Thread-safe.

    Args:
        poster: sends requests.
        dialect: its dialect, or None until `detect` knows it.
        clock: seconds that never go backwards.
        breaker: pauses calls; shared by all clients of a node.
    """

    def __init__(
        self, poster: HttpPoster, dialect: Dialect | None, clock: Callable[[], float], breaker: CircuitBreaker
    ) -> None:
        self._poster = poster
        self._clock = clock
        self._ids = itertools.count(1)
        self._breaker = breaker
        self.dialect = dialect

    def detect(self, timeout: float) -> Dialect:
        """Detect the dialect of the node, once. Raise UpstreamError if it cannot be detected yet."""
        if self.dialect is None:
            reply = self._post(PROBE, {**CORE.headers, **DILITHION.headers}, timeout)
            self.dialect = detect_dialect(reply)
            outcome = self._recorded(read_one(reply))
            if self.dialect is None:
                raise outcome if isinstance(outcome, UpstreamError) else UpstreamError(UpstreamErrorKind.UNKNOWN)
            logger.info("the node speaks the dialect %s", self.dialect.name)
        return self.dialect

    def call(self, method: str, params: bytes, timeout: float, wallet: str | None = None) -> msgspec.Raw:
        """Call a method.

        Args:
            method: its name.
            params: as JSON, empty for none.
            timeout: seconds.
            wallet: the one to use, or None for the node's default.

        Returns:
            The result, as the bytes that came.

        Raises:
            RpcError: the node's own error unchanged, or a `UpstreamError`.
        """
        dialect = self._require_dialect()
        body = dialect.request(method, params, next(self._ids))
        self._check_size(body, dialect)
        try:
            outcome = self._recorded(read_one(self._post(body, dialect.headers, timeout, wallet)))
        except UpstreamError as error:
            raise _with_retry_hint(error, method, dialect) from None
        if isinstance(outcome, UpstreamError):
            raise _with_retry_hint(outcome, method, dialect)
        if isinstance(outcome, RpcError):
            raise outcome
        assert isinstance(outcome, msgspec.Raw)
        return outcome

    def batch(self, calls: Sequence[Call], timeout: float, wallet: str | None = None) -> list[Outcome]:
        """Call several methods, in as few requests as the node accepts. See `call`.

        Returns:
            For each call its result, or the RpcError that it ended with.
        """
        try:
            dialect = self._require_dialect()
        except UpstreamError as error:
            return [error] * len(calls)
        outcomes: dict[int, Outcome] = {}
        refusal: UpstreamError | None = None
        group: list[_BatchEntry] = []
        size, deadline = 2 + _HEADERS_SIZE, self._clock() + timeout
        for at, (method, params) in enumerate(calls):
            id = next(self._ids)
            try:
                request = dialect.request(method, params, id)
                self._check_size(request, dialect)
            except RpcError as error:
                outcomes[at] = error
                continue
            if group and (len(group) >= dialect.max_batch or size + len(request) + 1 > dialect.max_body):
                outcomes.update(self._send(group, dialect, deadline, wallet, refusal))
                refusal = refusal or _refusal_in(outcomes)
                group, size = [], 2 + _HEADERS_SIZE
            group.append(_BatchEntry(at, id, request, method))
            size += len(request) + 1
        if group:
            outcomes.update(self._send(group, dialect, deadline, wallet, refusal))
        return [outcomes[at] for at in range(len(calls))]

    def _send(
        self,
        group: list[_BatchEntry],
        dialect: Dialect,
        deadline: float,
        wallet: str | None,
        refusal: UpstreamError | None = None,
    ) -> dict[int, Outcome]:
        body = b"[%b]" % b",".join(entry.request for entry in group)
        try:
            if refusal is not None:
                raise refusal  # the node wants no further request now
            reply = self._post(body, dialect.headers, deadline - self._clock(), wallet)
            outcomes = read_batch(reply, [entry.id for entry in group])
        except UpstreamError as error:
            outcomes = [error] * len(group)
        for outcome in outcomes[:1]:
            self._recorded(outcome)
        return {
            entry.position: _with_retry_hint(outcome, entry.method, dialect)
            for entry, outcome in zip(group, outcomes, strict=True)
        }

    def _require_dialect(self) -> Dialect:
        if self.dialect is None:
            raise UpstreamError(UpstreamErrorKind.UNKNOWN)
        return self.dialect

    def _post(
        self, body: bytes, headers: Mapping[str, str], timeout: float, wallet: str | None = None
    ) -> UpstreamReply:
        self._breaker.check()
        path = "" if wallet is None else f"/wallet/{quote(wallet, safe='')}"
        return self._poster.post(body, headers, timeout, path)

    def _recorded(self, outcome: Outcome) -> Outcome:
        """Pause calls for a while if the node asks for that. Return the outcome."""
        self._breaker.record(outcome)
        return outcome

    def _check_size(self, body: bytes, dialect: Dialect) -> None:
        if len(body) + _HEADERS_SIZE > dialect.max_body:
            raise RpcError(
                JsonRpcCode.INVALID_PARAMS,
                f"Invalid params: the request has {len(body)} bytes, and the node takes {dialect.max_body} with headers",
                {"limit": dialect.max_body},
            )


def _refusal_in(outcomes: Mapping[int, Outcome]) -> UpstreamError | None:
    """Return an error that says that the node executed nothing, and wants no further request for a while, or None."""
    kinds = (UpstreamErrorKind.LIMITED, UpstreamErrorKind.BUSY)
    return next((one for one in outcomes.values() if isinstance(one, UpstreamError) and one.kind in kinds), None)


def _with_retry_hint(outcome: Outcome, method: str, dialect: Dialect) -> Outcome:
    """Return the outcome for the client: another error if a call that only reads was lost."""
    if not isinstance(outcome, UpstreamError) or not dialect.only_reads(method):
        return outcome
    kind = _HARMLESS.get(outcome.kind)
    return outcome if kind is None else UpstreamError(kind)
