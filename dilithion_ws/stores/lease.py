"""Leader election among the servers on one Redis: a key with a time to live, which the leader renews.

Each term of a leader has a fencing token, which is the value of the key while the term lasts. The script that writes
events compares the token. So events that a former leader still has in its write queue are rejected by Redis itself,
whatever the clocks say.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

from ..events.topic import Availability, Topic
from ..util.clock import Clock, monotonic
from ..util.position import Position
from ..util.thread_contracts import any_thread, owner_only, requires

__all__ = ["Lease", "PositionReader"]

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEWALS = 4
"""Renewals in the lifetime of a lease."""


class PositionReader(Protocol):
    """Reads from Redis where logs end."""

    def read_positions(self, topics: Sequence[Topic]) -> dict[Topic, Position]: ...


class Lease:
    """The leadership of some topics. Implements `Leadership`.

    States: not leading (no token) → catching up (a token, and positions to reach) → leading → not leading. A leader that
    has just been elected first reads what its predecessor has published; `term` is 0 until then.

    `term` and `token` may be read by any thread. Steps are taken by the reader thread of the store alone.

    Args:
        key: the key in Redis.
        topics: what is led.
        writer: the name of this server among the others.
        lifetime: seconds after which another server may lead if this one is silent.
        clock: seconds that never go backwards.
    """

    def __init__(
        self, key: str, topics: Sequence[Topic], writer: str, lifetime: float, clock: Clock = monotonic
    ) -> None:
        self.key = key
        self.topics = topics
        self._writer = writer
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._term = 0
        self._token = ""
        self._valid_until = 0.0
        self._catching_up: dict[Topic, Position] = {}
        self._next_step = 0.0
        self._has_resigned = False
        self._previous_token = ""

    @property
    def term(self) -> int:
        """See `Leadership`."""
        with self._lock:
            return self._term if self._is_leading() else 0

    @any_thread
    def token(self, term: int) -> str:
        """Return the fencing token of a term, or "" if the term is over."""
        with self._lock:
            return self._token if term == self._term and self._is_leading() else ""

    @requires("_lock")
    def _is_leading(self) -> bool:
        return bool(self._token) and not self._catching_up and self._clock() < self._valid_until

    @owner_only
    def step(self, redis: Any, positions: PositionReader) -> None:
        """Acquire or renew the lease, if that is due. Call it several times in its lifetime.

        Args:
            redis: the connection.
            positions: reads where the logs of the topics end in Redis.
        """
        now = self._clock()
        if now >= self._next_step and not self._has_resigned:
            self._next_step = now + self._lifetime / _RENEWALS
            if not self._renew(redis, now):
                self._acquire(redis, positions, now)
        if self._catching_up:
            self._catch_up(positions)

    def _renew(self, redis: Any, now: float) -> bool:
        """Renew the lease. Return False if it had already expired. An expired term is never resumed."""
        if not self._token or now >= self._valid_until:
            return False
        renewed = redis.eval(_RENEW, 1, self.key, self._token, int(self._lifetime * 1000))
        with self._lock:
            if not renewed or self._clock() >= self._valid_until:
                return False
            self._valid_until = now + self._lifetime
            return True

    def _acquire(self, redis: Any, positions: PositionReader, now: float) -> None:
        """Try to start a new term. The last one may have expired here while Redis does not know that yet."""
        with self._lock:
            previous, self._token = self._token or self._previous_token, ""
            self._previous_token = previous
            token = f"{self._writer}:{self._term + 1}"
        if redis.eval(_ACQUIRE, 1, self.key, token, int(self._lifetime * 1000), previous):
            ends = positions.read_positions(self.topics)  # no other server can write from here on
            with self._lock:
                self._term += 1
                self._token = token
                self._valid_until = now + self._lifetime
                self._catching_up = ends

    def _catch_up(self, positions: PositionReader) -> None:
        """Compare the logs with the positions that they must reach before this server leads."""
        ends = self._catching_up
        if any(topic.log.position.epoch != end.epoch for topic, end in ends.items()):
            ends = positions.read_positions(list(ends))  # a topic has started a new epoch meanwhile
        missing = {
            topic: end
            for topic, end in ends.items()
            if topic.availability is not Availability.AVAILABLE
            or topic.log.position.epoch != end.epoch
            or topic.log.position.seq < end.seq
        }
        with self._lock:
            self._catching_up = missing

    @owner_only
    def resign(self, redis: Any) -> None:
        """Let another server lead, and do not try again until `resume`."""
        with self._lock:
            self._has_resigned = True
            token, self._token = self._token, ""
        if token:
            redis.eval(_RELEASE, 1, self.key, token)

    @owner_only
    def resume(self) -> None:
        """Try to lead again."""
        with self._lock:
            self._has_resigned = False
