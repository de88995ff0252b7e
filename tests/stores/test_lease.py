"""The lease of a leader, with a clock of the test and a Redis of one key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dilithion_ws.events.log import Position
from dilithion_ws.events.topic import Availability
from dilithion_ws.stores.lease import Lease

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
            assert lease.term == 0  # somebody may have seen that
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
