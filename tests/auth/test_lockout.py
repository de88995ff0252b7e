from __future__ import annotations

from dilithion_ws import Limits
from dilithion_ws.auth.lockout import Lockout

from ..support import Clock


def lockout_of(clock: Clock, failures: int, addresses: int) -> Lockout:
    limits = Limits.from_names(
        login_failures=failures, lockout=60.0, lockout_longest=900.0, max_tracked_clients=addresses
    )
    return Lockout(clock, limits)


def test_five_failures_lock_an_address_and_each_lock_lasts_twice_as_long() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 5, 100)
    assert [lockout.record_failure("a", "bob") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert lockout.locked_for("a") == 60
    assert lockout.locked_for("b") == 0
    lasts = []
    for _ in range(5):
        clock.now += lockout.locked_for("a")
        lasts.append([lockout.record_failure("a", "bob") for _ in range(5)][-1])
    assert lasts == [120, 240, 480, 900, 900]
    clock.now += 2000
    assert [lockout.record_failure("a", "bob") for _ in range(5)][-1] == 60, "long enough ago to be forgotten"


def test_a_good_login_forgives_only_what_failed_under_its_name() -> None:
    lockout = lockout_of(Clock(), 5, 100)
    for _ in range(4):
        lockout.record_failure("a", "bob")
        lockout.record_success("a", "alice")
    assert lockout.record_failure("a", "bob") == 60, "alice's good logins bought bob no more guesses"
    for _ in range(4):
        lockout.record_failure("b", "bob")
    lockout.record_success("b", "bob")
    assert lockout.priority("b") == 2
    assert [lockout.record_failure("b", "bob") for _ in range(5)] == [0, 0, 0, 0, 60]
    assert [lockout.priority("a"), lockout.priority("c")] == [2, 1]
    lockout.record_failure("d", "bob")
    assert lockout.priority("d") == 0


def test_a_single_typo_does_not_count_for_ever() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 5, 100)
    lockout.record_failure("a", "bob")
    clock.now += 901
    assert lockout.priority("a") == 1


def test_of_thirty_locked_addresses_none_is_forgotten_for_others() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 1, 100)
    for number in range(30):
        lockout.record_failure(f"locked{number}", "bob")
    lockout._max_failures = 5
    for number in range(1000):
        lockout.record_failure(f"fresh{number}", "bob")
    assert all(lockout.locked_for(f"locked{number}") == 60 for number in range(30))
    assert len(lockout) == 100
    clock.now += 61
    for number in range(1000, 1100):
        lockout.record_failure(f"fresh{number}", "bob")
    assert not lockout._locked, "after its time a lock keeps nothing"


def test_single_failures_are_forgotten_too() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2, 100)
    lockout.record_failure("a", "bob")
    clock.now += 901
    assert lockout.record_failure("a", "bob") == 0
    assert lockout.record_failure("a", "bob") == 60


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    lockout = lockout_of(clock, 2, 100)
    lockout.record_failure("a", "bob")
    assert lockout.record_failure("a", "bob") == 60
    clock.now += 2000
    assert lockout.record_failure("a", "bob") == 0
    assert lockout.record_failure("a", "bob") == 60


def test_a_locked_address_is_not_forgotten_for_fresh_failures() -> None:
    lockout = lockout_of(Clock(), 5, 10)
    for _ in range(5):
        lockout.record_failure("locked", "bob")
    for number in range(1000):
        lockout.record_failure(f"fresh{number}", "bob")
    assert lockout.locked_for("locked") == 60
