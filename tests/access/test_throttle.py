from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dilithion_ws import ConfigError
from dilithion_ws.auth.method_rates import METHOD_RATES, method_rates
from dilithion_ws.auth.rate_limiter import Lockout, Rate, RateLimiter

from ..support import Clock


def test_a_bucket_empties_and_fills_again() -> None:
    clock = Clock()
    throttle = RateLimiter(clock, 10)
    rate = Rate(3, 0.5)
    assert [throttle.take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert throttle.take("a", rate) == 2.0
    assert throttle.take("b", rate) == 0, "another client has a bucket of its own"
    clock.now += 1.5
    assert throttle.take("a", rate) == 0.5
    clock.now += 0.5
    assert throttle.take("a", rate) == 0
    clock.now += 1000
    assert [throttle.take("a", rate) == 0 for _ in range(4)] == [True, True, True, False]


def test_a_cost_past_the_capacity_passes_a_full_bucket_and_leaves_a_debt() -> None:
    clock = Clock()
    throttle = RateLimiter(clock, 10)
    rate = Rate(10, 1)
    assert throttle.take("a", rate, 25) == 0
    assert throttle.take("a", rate, 1) == 16.0
    clock.now += 16
    assert throttle.take("a", rate, 1) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), max_size=60))
def test_no_more_passes_than_capacity_and_refill(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    throttle = RateLimiter(clock, 10)
    rate = Rate(5, 2)
    passed, start = 0, clock.now
    for pause, cost in steps:
        clock.now += pause
        wait = throttle.take("a", rate, cost)
        if wait == 0:
            passed += cost
        else:
            assert 0 < wait <= cost / 2
        assert passed <= 5 + 2 * (clock.now - start) + 1e-6


def test_ten_thousand_clients_take_bounded_memory() -> None:
    throttle, lockout = RateLimiter(Clock(), 1000), Lockout(Clock(), 5, 60, 900, 1000)
    for number in range(10_000):
        throttle.take(number, Rate(1, 1))
        lockout.failed(f"127.0.{number >> 8}.{number & 255}", "bob")
    assert len(throttle) == 1000
    assert len(lockout) == 1000


def test_five_failures_lock_an_address_and_each_lock_lasts_twice_as_long() -> None:
    clock = Clock()
    lockout = Lockout(clock, 5, 60, 900, 100)
    assert [lockout.failed("a", "bob") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert lockout.locked_for("a") == 60
    assert lockout.locked_for("b") == 0
    lasts = []
    for _ in range(5):
        clock.now += lockout.locked_for("a")
        lasts.append([lockout.failed("a", "bob") for _ in range(5)][-1])
    assert lasts == [120, 240, 480, 900, 900]
    clock.now += 2000
    assert [lockout.failed("a", "bob") for _ in range(5)][-1] == 60, "long enough ago to be forgotten"


def test_a_good_login_forgives_only_what_failed_under_its_name() -> None:
    lockout = Lockout(Clock(), 5, 60, 900, 100)
    for _ in range(4):
        lockout.failed("a", "bob")
        lockout.succeeded("a", "alice")
    assert lockout.failed("a", "bob") == 60, "alice's good logins bought bob no more guesses"
    for _ in range(4):
        lockout.failed("b", "bob")
    lockout.succeeded("b", "bob")
    assert lockout.standing("b") == 2
    assert [lockout.failed("b", "bob") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert [lockout.standing("a"), lockout.standing("c")] == [2, 1]
    lockout.failed("d", "bob")
    assert lockout.standing("d") == 0


def test_a_single_typo_does_not_count_for_ever() -> None:
    clock = Clock()
    lockout = Lockout(clock, 5, 60, 900, 100)
    lockout.failed("a", "bob")
    clock.now += 901
    assert lockout.standing("a") == 1


def test_of_thirty_locked_addresses_none_is_forgotten_for_others() -> None:
    clock = Clock()
    lockout = Lockout(clock, 1, 60, 900, 100)
    for number in range(30):
        lockout.failed(f"locked{number}", "bob")
    lockout._failures = 5
    for number in range(1000):
        lockout.failed(f"fresh{number}", "bob")
    assert all(lockout.locked_for(f"locked{number}") == 60 for number in range(30))
    assert len(lockout) == 100
    clock.now += 61
    for number in range(1000, 1100):
        lockout.failed(f"fresh{number}", "bob")
    assert not lockout._locked, "after its time a lock keeps nothing"


def test_single_failures_are_forgotten_too() -> None:
    clock = Clock()
    lockout = Lockout(clock, 2, 60, 900, 100)
    lockout.failed("a", "bob")
    clock.now += 901
    assert lockout.failed("a", "bob") == 0
    assert lockout.failed("a", "bob") == 60


def test_what_came_is_charged_to_a_debt_that_is_bounded() -> None:
    clock = Clock()
    throttle, rate = RateLimiter(clock, 10), Rate(10, 1)
    assert [throttle.charge("a", rate, 8) for _ in range(3)] == [2, -6, -10]
    assert throttle.take("a", rate, 0) == 10
    clock.now += 10
    assert throttle.take("a", rate, 0) == 0


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    lockout = Lockout(clock, 2, 60, 900, 100)
    lockout.failed("a", "bob")
    assert lockout.failed("a", "bob") == 60
    clock.now += 2000
    assert lockout.failed("a", "bob") == 0
    assert lockout.failed("a", "bob") == 60


def test_a_locked_address_is_not_forgotten_for_fresh_failures() -> None:
    lockout = Lockout(Clock(), 5, 60, 900, 10)
    for _ in range(5):
        lockout.failed("locked", "bob")
    for number in range(1000):
        lockout.failed(f"fresh{number}", "bob")
    assert lockout.locked_for("locked") == 60


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
