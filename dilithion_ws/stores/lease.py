"""Which of the servers on one Redis leads: a key with a time to live, which the leader renews.

Every reign has a token of its own, which is the key's value while it lasts. The script that writes events compares it,
so that what a former leader still has in its backlog is dropped by Redis itself, whatever the clocks say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..events.log import Position
from ..events.topic import Topic
from ..util.clock import monotonic

__all__ = ["Lease"]

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
_TAKE = """
local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RESIGN = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_OFTEN = 4
"""Steps in the life of a lease."""


class Lease:
    """The leadership of some topics.

    States: without it (no token) -> catching up (a token, and places to reach) -> leading -> without it.

    Args:
        key: in Redis.
        topics: of which.
        writer: what tells this server from the others.
        life: seconds after which another may lead, once this one is silent.
    """

    def __init__(self, key: str, topics: list[Topic], writer: str, life: float) -> None:
        self.key = key
        self.topics = topics
        self._writer = writer
        self._life = life
        self._changing = threading.Lock()  # guards all below; steps are taken by the store's reader alone
        self._reign = 0
        self._token = ""
        self._until = 0.0
        self._catching_up: dict[Topic, Position] = {}
        self._next = 0.0
        self._resigned = False
        self._before = ""

    @property
    def term(self) -> int:
        """See `Leadership`."""
        with self._changing:
            return self._reign if self._leads() else 0

    def token(self, term: int) -> str:
        """What goes with the events of a term; empty where it is over."""
        with self._changing:
            return self._token if term == self._reign and self._leads() else ""

    def _leads(self) -> bool:
        assert self._changing.locked()
        return bool(self._token) and not self._catching_up and monotonic() < self._until

    def step(self, redis: Any, places: Callable[[list[Topic]], dict[Topic, Position]]) -> None:
        """Takes or keeps the lease; called by the store's reader again and again, at least often in its life.

        Args:
            redis: the connection.
            places: called for where the topics' logs end in Redis.
        """
        now = monotonic()
        if now >= self._next and not self._resigned:
            self._next = now + self._life / _OFTEN
            if not self._keep(redis, now):
                self._take(redis, places, now)
        if self._catching_up:
            self._catch_up(places)

    def _keep(self, redis: Any, now: float) -> bool:
        """Renews the lease; whether that was in time. A reign that has lapsed meanwhile, however shortly, is over."""
        if not self._token or now >= self._until:
            return False
        renewed = redis.eval(_RENEW, 1, self.key, self._token, int(self._life * 1000))
        with self._changing:
            if not renewed or monotonic() >= self._until:
                return False
            self._until = now + self._life
            return True

    def _take(self, redis: Any, places: Callable[[list[Topic]], dict[Topic, Position]], now: float) -> None:
        """Tries for a new reign: also where the last one has lapsed here, and Redis has not noticed."""
        with self._changing:
            before, self._token = self._token or self._before, ""
            self._before = before
            token = f"{self._writer}:{self._reign + 1}"
        if redis.eval(_TAKE, 1, self.key, token, int(self._life * 1000), before):
            ends = places(self.topics)  # nobody else can write from here on
            with self._changing:
                self._reign += 1
                self._token = token
                self._until = now + self._life
                self._catching_up = ends

    def _catch_up(self, places: Callable[[list[Topic]], dict[Topic, Position]]) -> None:
        ends = self._catching_up
        if any(topic.log.position.epoch != end.epoch for topic, end in ends.items()):
            ends = places(list(ends))  # one has begun anew meanwhile
        missing = {
            topic: end
            for topic, end in ends.items()
            if topic.unavailable or topic.log.position.epoch != end.epoch or topic.log.position.seq < end.seq
        }
        with self._changing:
            self._catching_up = missing

    def resign(self, redis: Any) -> None:
        """Lets another lead, and does not try again until `resume`."""
        with self._changing:
            self._resigned = True
            token, self._token = self._token, ""
        if token:
            redis.eval(_RESIGN, 1, self.key, token)

    def resume(self) -> None:
        """Tries again."""
        with self._changing:
            self._resigned = False
