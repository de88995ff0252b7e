"""Calls that wait for a block, with a tip and a clock that the test sets, without a thread."""

from __future__ import annotations

import math
from concurrent.futures import Future
from typing import Any

import pytest

from dilithion_ws import CallContext, RpcError, Session
from dilithion_ws.gateway.block_waiters import BlockWaiters, Tip
from dilithion_ws.util.clock import Deadline

from ..support import Clock

FIRST, SECOND = Tip(1, "aa"), Tip(2, "bb")
CALL_TIMEOUT = 60.0


class Chain:
    """A tip that a test sets, and the calls that wait for the next one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tip: Tip | None = FIRST
        self.waiters = BlockWaiters(lambda: self.tip, self.clock)

    def call(self, method: str, *params: Any, deadline: float = CALL_TIMEOUT, **named: Any) -> Any:
        context = CallContext(Session(1, ("127.0.0.1", 1)), method, 1, False, Deadline(self.clock, deadline))
        return getattr(self.waiters, method)(context, *params, **named)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.mark.parametrize(
    ("method", "params"), [("waitfornewblock", ()), ("waitforblock", ("bb",)), ("waitforblockheight", (2,))]
)
def test_a_call_is_answered_when_its_condition_is_true(chain: Chain, method: str, params: tuple[Any, ...]) -> None:
    future = chain.call(method, *params)
    chain.waiters.step()
    assert not future.done()
    chain.tip = SECOND
    chain.waiters.step()
    assert future.result(0) == {"hash": "bb", "height": 2}


@pytest.mark.parametrize(
    ("method", "params"), [("waitfornewblock", (0, "other")), ("waitforblock", ("aa",)), ("waitforblockheight", (1,))]
)
def test_a_call_whose_condition_is_true_already_does_not_wait(
    chain: Chain, method: str, params: tuple[Any, ...]
) -> None:
    assert chain.call(method, *params) == {"hash": "aa", "height": 1}


@pytest.mark.parametrize(
    ("params", "named", "seconds"),
    [
        ((2000,), {}, 2.0),
        ((), {"timeout_ms": 3000}, 3.0),
        ((), {}, 30.0),
        ((10**9,), {}, CALL_TIMEOUT - 0.5),
        ((10**9,), {"deadline": 1000.0}, 300.0),
    ],
    ids=["timeout", "timeout_ms", "default", "not beyond the deadline of the call", "no longer than five minutes"],
)
def test_a_call_is_answered_with_the_present_tip_when_its_time_is_over(
    chain: Chain, params: tuple[Any, ...], named: dict[str, Any], seconds: float
) -> None:
    future = chain.call("waitfornewblock", *params, **named)
    chain.clock.now += seconds - 0.01
    chain.waiters.step()
    assert not future.done()
    chain.clock.now += 0.01
    chain.waiters.step()
    assert future.result(0) == {"hash": "aa", "height": 1}


def test_a_call_that_was_cancelled_is_forgotten(chain: Chain) -> None:
    future: Future[Any] = chain.call("waitfornewblock")
    future.cancel()
    chain.waiters.step()
    assert len(chain.waiters) == 0


def test_without_a_waiting_call_the_thread_sleeps(chain: Chain) -> None:
    assert chain.waiters.step().maximum == math.inf
    chain.call("waitfornewblock")
    assert chain.waiters.step().maximum == 0.05


def test_without_a_tip_a_call_is_refused(chain: Chain) -> None:
    chain.tip = None
    with pytest.raises(RpcError) as caught:
        chain.call("waitfornewblock")
    assert caught.value.code == -32009


def test_a_call_ends_with_an_error_if_the_tip_is_gone(chain: Chain) -> None:
    future = chain.call("waitfornewblock", 1000)
    chain.tip = None
    chain.clock.now += 1.0
    chain.waiters.step()
    assert isinstance(future.exception(0), RpcError)


def test_stop_answers_all_calls_and_those_that_come_later(chain: Chain) -> None:
    future = chain.call("waitfornewblock")
    chain.waiters.stop(5.0)
    assert future.result(0) == {"hash": "aa", "height": 1}
    assert chain.call("waitfornewblock") == {"hash": "aa", "height": 1}
