from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import ConfigError, Limits
from dilithion_ws.auth.lockout import Lockout
from dilithion_ws.auth.method_rates import METHOD_RATES, method_rates
from dilithion_ws.auth.rate_limiter import Rate, RateLimiter

from ..support import Clock


def lockout_of(clock: Clock, failures: int, addresses: int) -> Lockout:
    limits = Limits.from_names(
        login_failures=failures, lockout=60.0, lockout_longest=900.0, max_tracked_clients=addresses
    )
    return Lockout(clock, limits)


def test_a_bucket_empties_and_fills_again() -> None:
    clock = Clock()
    limiter = RateLimiter(clock, 10)
    rate = Rate(3, 0.5)
    assert [limiter.take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a", rate) == 2.0
    assert limiter.take("b", rate) == 0, "another client has a bucket of its own"
    clock.now += 1.5
    assert limiter.take("a", rate) == 0.5
    clock.now += 0.5
    assert limiter.take("a", rate) == 0
    clock.now += 1000
    assert [limiter.take("a", rate) == 0 for _ in range(4)] == [True, True, True, False]


def test_a_cost_past_the_capacity_passes_a_full_bucket_and_leaves_a_debt() -> None:
    clock = Clock()
    limiter = RateLimiter(clock, 10)
    rate = Rate(10, 1)
    assert limiter.take("a", rate, 25) == 0
    assert limiter.take("a", rate, 1) == 16.0
    clock.now += 16
    assert limiter.take("a", rate, 1) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), max_size=60))
def test_no_more_passes_than_capacity_and_refill(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    limiter = RateLimiter(clock, 10)
    rate = Rate(5, 2)
    passed, start = 0, clock.now
    for pause, cost in steps:
        clock.now += pause
        wait = limiter.take("a", rate, cost)
        if wait == 0:
            passed += cost
        else:
            assert 0 < wait <= cost / 2
        assert passed <= 5 + 2 * (clock.now - start) + 1e-6


def test_ten_thousand_clients_take_bounded_memory() -> None:
    limiter, lockout = RateLimiter(Clock(), 1000), lockout_of(Clock(), 5, 1000)
    for number in range(10_000):
        limiter.take(number, Rate(1, 1))
        lockout.record_failure(f"127.0.{number >> 8}.{number & 255}", "bob", b"guess")
    assert len(limiter) == 1000
    assert len(lockout) == 1000


def test_what_came_is_charged_to_a_debt_that_is_bounded() -> None:
    clock = Clock()
    limiter, rate = RateLimiter(clock, 10), Rate(10, 1)
    assert [limiter.charge("a", rate, 8) for _ in range(3)] == [2, -6, -10]
    assert limiter.take("a", rate, 0) == 10
    clock.now += 10
    assert limiter.take("a", rate, 0) == 0


def test_the_nodes_table_and_changes_to_it() -> None:
    assert METHOD_RATES["walletpassphrase"] == (5, 5 / 60)
    assert METHOD_RATES["getblock"] == (500, 500 / 60)
    assert METHOD_RATES["default"] == (10, 1000 / 60)
    changed = method_rates(["getblock=7/0.5", "default=1/1"])
    assert changed["getblock"] == (7, 0.5)
    assert changed["default"] == (1, 1)
    assert changed["sendtoaddress"] == METHOD_RATES["sendtoaddress"]
    for bad in ("getblock", "getblock=5", "getblock=0/1", "=1/1", "a=1/inf", "a=x/y"):
        with pytest.raises(ConfigError, match="NAME=CAPACITY/REFILL"):
            method_rates([bad])
