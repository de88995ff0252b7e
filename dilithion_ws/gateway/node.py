"""Calls to the node: in its dialect, under the gateway's own ids, one by one or many in one request."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence

import msgspec

from .. import JsonRpcCode, RpcError
from .answers import Outcome, Reply, read_batch, read_one
from .core import CORE
from .detecting import PROBE, recognise
from .dialect import Dialect
from .dilithion import DILITHION
from .troubles import Kind, TroubleError
from .upstream import Poster

__all__ = ["Call", "Node"]

logger = logging.getLogger("dilithion_ws.gateway")

Call = tuple[str, bytes]
"""A method and its params as JSON, empty for none."""

_HEADERS_SIZE = 1024


class Node:
    """The node, as the gateway sees it. Thread-safe.

    Args:
        poster: sends requests.
        dialect: how it is spoken to; None until `detect` has found out.
        clock: seconds that never go backwards.
    """

    def __init__(self, poster: Poster, dialect: Dialect | None, clock: Callable[[], float]) -> None:
        self._poster = poster
        self._clock = clock
        self._ids = itertools.count(1)
        self._resting = threading.Lock()  # guards `_rest`
        self._rest: tuple[float, TroubleError] | None = None
        self.dialect = dialect

    def detect(self, timeout: float) -> Dialect:
        """Finds out what dialect the node speaks, once; raises TroubleError while that can't be told."""
        if self.dialect is None:
            reply = self._post(PROBE, {**CORE.headers, **DILITHION.headers}, timeout)
            self.dialect = recognise(reply)
            outcome = self._noted(read_one(reply))
            if self.dialect is None:
                raise outcome if isinstance(outcome, TroubleError) else TroubleError(Kind.UNKNOWN)
            logger.info("the node speaks the dialect %s", self.dialect.name)
        return self.dialect

    def call(self, method: str, params: bytes, timeout: float) -> msgspec.Raw:
        """Calls a method.

        Args:
            method: its name.
            params: as JSON, empty for none.
            timeout: seconds.

        Returns:
            The result, as the bytes that came.

        Raises:
            RpcError: the node's own error unchanged, or a `TroubleError`.
        """
        dialect = self._known()
        body = dialect.request(method, params, next(self._ids))
        self._check_size(body, dialect)
        try:
            outcome = self._noted(read_one(self._post(body, dialect.headers, timeout)))
        except TroubleError as error:
            raise _repeatable(error, method, dialect) from None
        if isinstance(outcome, RpcError):
            raise outcome
        assert isinstance(outcome, msgspec.Raw)
        return outcome

    def batch(self, calls: Sequence[Call], timeout: float) -> list[Outcome]:
        """Calls many methods, in one request where that is not too much for the node.

        Returns:
            For each call its result, or the RpcError that it ended with.
        """
        try:
            dialect = self._known()
        except TroubleError as error:
            return [error] * len(calls)
        outcomes: dict[int, Outcome] = {}
        group: list[tuple[int, int, bytes, str]] = []  # place, id, request, method
        size, deadline = 2 + _HEADERS_SIZE, self._clock() + timeout
        for at, (method, params) in enumerate(calls):
            id = next(self._ids)
            try:
                request = dialect.request(method, params, id)
                self._check_size(request, dialect)
            except RpcError as error:
                outcomes[at] = error
                continue
            if group and (len(group) >= dialect.most_batch or size + len(request) + 1 > dialect.most_body):
                outcomes.update(self._send(group, dialect, deadline))
                group, size = [], 2 + _HEADERS_SIZE
            group.append((at, id, request, method))
            size += len(request) + 1
        if group:
            outcomes.update(self._send(group, dialect, deadline))
        return [outcomes[at] for at in range(len(calls))]

    def _send(self, group: list[tuple[int, int, bytes, str]], dialect: Dialect, deadline: float) -> dict[int, Outcome]:
        body = b"[%b]" % b",".join(request for _, _, request, _ in group)
        try:
            reply = self._post(body, dialect.headers, deadline - self._clock())
            outcomes = read_batch(reply, [id for _, id, _, _ in group])
        except TroubleError as error:
            outcomes = [_repeatable(error, method, dialect) for _, _, _, method in group]
        for outcome in outcomes[:1]:
            self._noted(outcome)
        return {at: outcome for (at, _, _, _), outcome in zip(group, outcomes, strict=True)}

    def _known(self) -> Dialect:
        if self.dialect is None:
            raise TroubleError(Kind.UNKNOWN)
        return self.dialect

    def _post(self, body: bytes, headers: object, timeout: float) -> Reply:
        with self._resting:
            rest = self._rest
            if rest is not None and self._clock() >= rest[0]:
                rest = self._rest = None
        if rest is not None:
            raise TroubleError(rest[1].kind, retry=max(0.001, rest[0] - self._clock()))
        return self._poster.post(body, headers, timeout)  # type: ignore[arg-type]

    def _noted(self, outcome: Outcome) -> Outcome:
        """Leaves the node alone for a while where it has said that it wants to be."""
        if isinstance(outcome, TroubleError) and outcome.pause and outcome.kind is not Kind.LIMITED:
            with self._resting:
                self._rest = self._clock() + outcome.pause, outcome
            logger.warning("no calls to the node for %g s: %s", outcome.pause, outcome.message)
        return outcome

    def _check_size(self, body: bytes, dialect: Dialect) -> None:
        if len(body) + _HEADERS_SIZE > dialect.most_body:
            raise RpcError(
                JsonRpcCode.INVALID_PARAMS,
                f"Invalid params: the request has {len(body)} bytes, and the node takes {dialect.most_body} with headers",
                {"limit": dialect.most_body},
            )


def _repeatable(error: TroubleError, method: str, dialect: Dialect) -> TroubleError:
    """What a client is told of a call that the node has had and not answered."""
    if error.kind is Kind.LOST and dialect.only_reads(method):
        return TroubleError(Kind.BROKEN_OFF)
    return error
