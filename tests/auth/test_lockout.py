from __future__ import annotations

import itertools

from dilithion_ws import Limits
from dilithion_ws.auth.lockout import Lockout

from ..support import Clock

_GUESSES = itertools.count()


def fail(lockout: Lockout, address: str, name: str = "bob") -> float:
    """Record a failure with a guess that was not made before."""
    return lockout.record_failure(address, name, b"%d" % next(_GUESSES))


def lockout_of(clock: Clock, failures: int, addresses: int) -> Lockout:
    limits = Limits.from_names(
        login_failures=failures, lockout=60.0, lockout_longest=900.0, max_tracked_clients=addresses
    )
    return Lockout(clock, limits)


def test_five_failures_lock_an_address_and_each_lock_lasts_twice_as_long() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 5, 100)
    assert [fail(lockout, "a") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert lockout.locked_for("a") == 60
    assert lockout.locked_for("b") == 0
    lasts = []
    for _ in range(5):
        clock.now += lockout.locked_for("a")
        lasts.append([fail(lockout, "a") for _ in range(5)][-1])
    assert lasts == [120, 240, 480, 900, 900]
    clock.now += 2000
    assert [fail(lockout, "a") for _ in range(5)][-1] == 60, "long enough ago to be forgotten"


def test_a_good_login_forgives_only_what_failed_under_its_name() -> None:
    lockout = lockout_of(Clock(), 5, 100)
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
    lockout = lockout_of(clock, 5, 100)
    fail(lockout, "a")
    clock.now += 901
    assert lockout.priority("a") == 1


def test_of_thirty_locked_addresses_none_is_forgotten_for_others() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 1, 100)
    for number in range(30):
        fail(lockout, f"locked{number}")
    lockout._max_failures = 5
    for number in range(1000):
        fail(lockout, f"fresh{number}")
    assert all(lockout.locked_for(f"locked{number}") == 60 for number in range(30))
    assert len(lockout) == 100
    clock.now += 61
    for number in range(1000, 1100):
        fail(lockout, f"fresh{number}")
    assert not lockout._locked, "after its time a lock keeps nothing"


def test_single_failures_are_forgotten_too() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2, 100)
    fail(lockout, "a")
    clock.now += 901
    assert fail(lockout, "a") == 0
    assert fail(lockout, "a") == 60


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2, 100)
    fail(lockout, "a")
    assert fail(lockout, "a") == 60
    clock.now += 2000
    assert fail(lockout, "a") == 0
    assert fail(lockout, "a") == 60


def test_a_locked_address_is_not_forgotten_for_fresh_failures() -> None:
    lockout = lockout_of(Clock(), 5, 10)
    for _ in range(5):
        fail(lockout, "locked")
    for number in range(1000):
        fail(lockout, f"fresh{number}")
    assert lockout.locked_for("locked") == 60


def test_the_same_guess_counts_once() -> None:
    lockout = lockout_of(Clock(), 2, 10)
    assert [lockout.record_failure("a", "rpc", b"rpc") for _ in range(100)] == [0] * 100
    assert lockout.has_failed("a", "rpc", b"rpc")
    assert lockout.record_failure("a", "rpc", b"other") == 60


def test_a_guess_has_failed_for_its_name_and_address_only() -> None:
    lockout = lockout_of(Clock(), 2, 10)
    lockout.record_failure("a", "rpc", b"guess")
    assert not lockout.has_failed("a", "bob", b"guess")
    assert not lockout.has_failed("b", "rpc", b"guess")


def test_a_failure_during_a_lock_out_does_not_extend_it() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 1, 10)
    assert fail(lockout, "a") == 60
    clock.now += 30
    assert fail(lockout, "a") == 0
    assert lockout.locked_for("a") == 30
