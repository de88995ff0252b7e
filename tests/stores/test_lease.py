"""The lease of a leader, with a clock of the test and a Redis of one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dilithion_ws.events.topic import Availability
from dilithion_ws.stores.lease import Lease
from dilithion_ws.util.position import Position

from ..support import Clock


class FakeRedis:
    """One key with a value; time is the test's."""

    def __init__(self) -> None:
        self.value: str | None = None

    def eval(self, script: str, keys: int, key: str, token: str, *more: Any) -> int:
        if "PEXPIRE" in script:
            return int(self.value == token)
        if "'DEL'" in script:
            self.value = None
            return 1
        if self.value not in (None, more[1]):
            return 0
        self.value = token
        return 1


class FakeTopic:
    def __init__(self) -> None:
        self.availability = Availability.AVAILABLE
        self.log = self
        self.position = Position("e", 5)


class Positions:
    """Tells where the logs end."""

    def __init__(self, ends: dict[Any, Position] | None = None) -> None:
        self.ends = ends or {}

    def read_positions(self, topics: Sequence[Any]) -> dict[Any, Position]:
        return self.ends


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_expired_lease_starts_a_new_term_although_it_is_renewed(clock: Clock) -> None:
    topic: Any = FakeTopic()
    lease, redis = Lease("key", [topic], "me", 3.0, clock), FakeRedis()
    ends = {topic: Position("e", 5)}
    lease.step(redis, Positions(ends))
    first = lease.term
    assert first
    clock.now += 2.9
    lease.step(redis, Positions(ends))
    assert lease.term == first  # kept in time
    token = lease.token(first)
    clock.now += 3.1  # the renewal was carried out, say, and its answer was late
    assert lease.term == 0
    assert lease.token(first) == ""
    lease.step(redis, Positions(ends))
    assert lease.term not in (0, first)
    assert lease.token(first) == ""
    assert redis.value != token


def test_a_renewal_that_returns_late_starts_a_new_term(clock: Clock) -> None:
    lease, redis = Lease("key", [], "me", 3.0, clock), FakeRedis()
    lease.step(redis, Positions())
    first = lease.term
    clock.now += 2.0
    answer = redis.eval

    def slow(script: str, *arguments: Any) -> int:
        if "PEXPIRE" in script:
            clock.now += 1.5
            assert lease.term == 0  # another thread may have seen that
        return answer(script, *arguments)

    redis.eval = slow  # type: ignore[method-assign, assignment]
    lease.step(redis, Positions())
    clock.now += 0.1
    redis.eval = answer  # type: ignore[method-assign]
    lease.step(redis, Positions())
    clock.now += 1.0
    lease.step(redis, Positions())
    assert lease.term > first
    assert lease.token(first) == ""


def test_catching_up_continues_when_a_topic_starts_a_new_epoch(clock: Clock) -> None:
    topic: Any = FakeTopic()
    lease, redis = Lease("key", [topic], "me", 3.0, clock), FakeRedis()
    lease.step(redis, Positions({topic: Position("e", 9)}))
    assert lease.term == 0
    topic.position = Position("f", 1)
    lease.step(redis, Positions({topic: Position("f", 1)}))
    assert lease.term == 1


def test_who_has_resigned_does_not_try_again(clock: Clock) -> None:
    lease, redis = Lease("key", [], "me", 3.0, clock), FakeRedis()
    lease.step(redis, Positions())
    lease.resign(redis)
    clock.now += 10
    lease.step(redis, Positions())
    assert (lease.term, redis.value) == (0, None)
    lease.resume()
    lease.step(redis, Positions())
    assert lease.term == 2


class ExpiringRedis:
    """One key that expires, by the clock of the test; a connection to it may be cut."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.value: str | None = None
        self.expires = 0.0
        self.is_cut = False

    def eval(self, script: str, keys: int, key: str, token: str, *more: Any) -> int:
        if self.is_cut:
            raise ConnectionError("cut off")
        if self.clock.now >= self.expires:
            self.value = None
        if "'DEL'" in script:
            if self.value == token:
                self.value = None
            return 1
        if "PEXPIRE" in script:
            if self.value != token:
                return 0
        elif self.value is not None and self.value != more[1]:
            return 0
        self.value, self.expires = token, self.clock.now + more[0] / 1000
        return 1


class LeaseModel(RuleBasedStateMachine):
    """Servers take steps, lose their connection and resign in any order; never do two of them lead."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.redis = ExpiringRedis(self.clock)
        self.leases = [Lease("key", [], f"server{number}", 3.0, self.clock) for number in range(3)]
        self.terms: list[set[int]] = [set() for _ in self.leases]

    @rule(at=st.integers(0, 2))
    def step(self, at: int) -> None:
        try:
            self.leases[at].step(self.redis, Positions())
        except ConnectionError:
            pass

    @rule(seconds=st.floats(0.0, 4.0))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(is_cut=st.booleans())
    def cut(self, is_cut: bool) -> None:
        self.redis.is_cut = is_cut

    @rule(at=st.integers(0, 2))
    def resign(self, at: int) -> None:
        try:
            self.leases[at].resign(self.redis)
        except ConnectionError:
            pass

    @rule(at=st.integers(0, 2))
    def resume(self, at: int) -> None:
        self.leases[at].resume()

    @invariant()
    def at_most_one_leads_and_terms_only_grow(self) -> None:
        terms = [lease.term for lease in self.leases]
        assert sum(map(bool, terms)) <= 1
        for lease, term, seen in zip(self.leases, terms, self.terms, strict=True):
            if term:
                assert term >= max(seen, default=0)
                assert (
                    lease.token(term) == self.redis.value or self.redis.is_cut or self.clock.now >= self.redis.expires
                )
                seen.add(term)


TestLeaseModel = LeaseModel.TestCase
