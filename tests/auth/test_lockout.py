from __future__ import annotations

import itertools
from typing import Any

import pytest

from dilithion_ws import Limits
from dilithion_ws.auth.lockout import Lockout, LockScope, NewLock

from ..support import Clock

_GUESSES = itertools.count()


def fail(lockout: Lockout, address: str, name: str = "bob") -> float:
    """Record a failure with a guess that was not made before. Return the seconds of the lock-out, or 0."""
    found = lockout.record_failure(address, name, b"%d" % next(_GUESSES))
    return 0 if found is None else found.seconds


def lockout_of(clock: Clock, failures: int, addresses: int = 100, **limits: Any) -> Lockout:
    made = Limits.from_names(
        login_failures=failures, lockout=60.0, lockout_longest=900.0, max_tracked_clients=addresses, **limits
    )
    return Lockout(clock, made)


def test_five_failures_lock_a_name_out_and_each_lock_lasts_twice_as_long() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 5, address_login_failures=1000)
    assert [fail(lockout, "a") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert lockout.locked_for("a", "bob") == 60
    assert lockout.locked_for("a", "alice") == 0, "another user of the same machine"
    assert lockout.locked_for("b", "bob") == 0, "the same user elsewhere"
    lasts = []
    for _ in range(5):
        clock.now += lockout.locked_for("a", "bob")
        lasts.append([fail(lockout, "a") for _ in range(5)][-1])
    assert lasts == [120, 240, 480, 900, 900]
    clock.now += 2000
    assert [fail(lockout, "a") for _ in range(5)][-1] == 60, "long enough ago to be forgotten"


def test_an_address_that_tries_many_names_is_locked_out() -> None:
    lockout = lockout_of(Clock(), 5, address_login_failures=20)
    locks = [lockout.record_failure("a", f"name{at}", b"guess") for at in range(20)]
    assert locks == [None] * 19 + [NewLock(LockScope.ADDRESS, 60)]
    assert lockout.locked_for("a", "stranger") == 60
    assert lockout.locked_for("b", "name1") == 0


def test_a_name_that_many_addresses_try_is_locked_out_where_it_never_logged_in() -> None:
    lockout = lockout_of(Clock(), 5, 1000, name_login_failures=100)
    lockout.record_success("home", "bob")
    locks = [lockout.record_failure(f"host{at}", "bob", b"%d" % at) for at in range(100)]
    assert locks == [None] * 99 + [NewLock(LockScope.NAME, 60)]
    assert lockout.locked_for("elsewhere", "bob") == 60
    assert lockout.locked_for("home", "bob") == 0
    assert lockout.locked_for("elsewhere", "alice") == 0


def test_a_good_login_forgives_only_what_failed_under_its_name() -> None:
    lockout = lockout_of(Clock(), 5)
    for _ in range(4):
        fail(lockout, "a")
        lockout.record_success("a", "alice")
    assert fail(lockout, "a") == 60, "alice's good logins bought bob no more guesses"
    for _ in range(4):
        fail(lockout, "b")
    lockout.record_success("b", "bob")
    assert lockout.priority("b") == 2
    assert [fail(lockout, "b") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert [lockout.priority("a"), lockout.priority("c")] == [2, 1]
    fail(lockout, "d")
    assert lockout.priority("d") == 0


def test_a_single_typo_does_not_count_for_ever() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 5)
    fail(lockout, "a")
    clock.now += 901
    assert lockout.priority("a") == 1


def test_of_thirty_locked_names_none_is_forgotten_for_others() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2, name_login_failures=10_000)
    for number in range(30):
        assert [fail(lockout, f"locked{number}") for _ in range(2)] == [0, 60]
    for number in range(1000):
        fail(lockout, f"fresh{number}")
    assert all(lockout.locked_for(f"locked{number}", "bob") == 60 for number in range(30))
    assert len(lockout) == 100
    clock.now += 61
    for number in range(1000, 1100):
        fail(lockout, f"fresh{number}")
    assert not lockout._pairs._locked, "after its time a lock keeps nothing"


@pytest.mark.parametrize("pause", [901, 2000])
def test_old_failures_are_forgotten(pause: float) -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2)
    fail(lockout, "a")
    clock.now += pause
    assert [fail(lockout, "a") for _ in range(2)] == [0, 60]
    clock.now += pause + 60
    assert [fail(lockout, "a") for _ in range(2)] == [0, 60]


def test_a_locked_name_is_not_forgotten_for_fresh_failures() -> None:
    lockout = lockout_of(Clock(), 5, 10, name_login_failures=10_000)
    for _ in range(5):
        fail(lockout, "locked")
    for number in range(1000):
        fail(lockout, f"fresh{number}")
    assert lockout.locked_for("locked", "bob") == 60


def test_the_same_guess_counts_once() -> None:
    lockout = lockout_of(Clock(), 2)
    assert [lockout.record_failure("a", "rpc", b"rpc") for _ in range(100)] == [None] * 100
    assert lockout.has_failed("a", "rpc", b"rpc")
    assert lockout.record_failure("a", "rpc", b"other") == NewLock(LockScope.PAIR, 60)


def test_a_guess_has_failed_for_its_name_and_address_only() -> None:
    lockout = lockout_of(Clock(), 2)
    lockout.record_failure("a", "rpc", b"guess")
    assert not lockout.has_failed("a", "bob", b"guess")
    assert not lockout.has_failed("b", "rpc", b"guess")


def test_a_failure_during_a_lock_out_neither_extends_it_nor_is_kept() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 1)
    assert fail(lockout, "a") == 60
    clock.now += 30
    assert [fail(lockout, "a") for _ in range(1000)] == [0] * 1000
    assert lockout.locked_for("a", "bob") == 30
    assert len(lockout._pairs.touch(("a", hash("bob")), clock.now).guesses) == 0


def test_few_guesses_are_compared_with_remembered_passwords_during_a_lock_out() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 1, remembered_guesses=3)
    fail(lockout, "a")
    right = [lockout.may_be_remembered("a", "bob", b"right") for _ in range(5)]
    assert right == [True] * 5, "a program that is logged in and calls again and again"
    assert [lockout.may_be_remembered("a", "bob", b"%d" % at) for at in range(10)] == [True] * 2 + [False] * 8
    assert lockout.may_be_remembered("a", "bob", b"right")
    assert not lockout.has_failed("a", "bob", b"right"), "what was only compared may still be verified later"
    clock.now += 61
    assert fail(lockout, "a") == 120
    assert lockout.may_be_remembered("a", "bob", b"9")


def test_the_budget_of_comparisons_is_not_forgotten_for_other_names() -> None:
    lockout = lockout_of(Clock(), 5, 100, address_login_failures=3, remembered_guesses=3)
    for at in range(3):
        lockout.record_failure("a", f"name{at}", b"guess")
    for at in range(3):
        lockout.may_be_remembered("a", "bob", b"%d" % at)
    for at in range(1000):
        lockout.may_be_remembered("a", f"other{at}", b"x")
    assert not lockout.may_be_remembered("a", "bob", b"right")
