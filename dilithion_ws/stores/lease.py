"""Which of the servers on one Redis leads: a key with a time to live, which the leader renews.

Every reign has a token of its own, which is the key's value while it lasts. The script that writes events compares it,
so that what a former leader still has in its backlog is dropped by Redis itself, whatever the clocks say.
"""

from __future__ import annotations

import threading
from typing import Any

from ..clock import monotonic
from ..events.log import Position
from ..events.topic import Topic

__all__ = ["Lease"]

_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
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

    @property
    def term(self) -> int:
        """See `Leadership`."""
        with self._changing:
            return self._reign if self._leads() else 0

    @property
    def token(self) -> str:
        """The token of the present reign; empty where this server does not lead."""
        with self._changing:
            return self._token if self._leads() else ""

    def _leads(self) -> bool:
        assert self._changing.locked()
        return bool(self._token) and not self._catching_up and monotonic() < self._until

    def step(self, redis: Any, places: Any) -> None:
        """Takes or keeps the lease; called by the store's reader again and again, at least often in its life.

        Args:
            redis: the connection.
            places: called for where the topics' logs end in Redis.
        """
        now = monotonic()
        if now >= self._next:
            self._next = now + self._life / _OFTEN
            if self._token and redis.eval(_RENEW, 1, self.key, self._token, int(self._life * 1000)):
                with self._changing:
                    self._until = now + self._life
            else:
                self._take(redis, places, now)
        if self._catching_up:
            self._catch_up()

    def _take(self, redis: Any, places: Any, now: float) -> None:
        token = f"{self._writer}:{self._reign + 1}"
        with self._changing:
            self._token = ""
        if redis.set(self.key, token, nx=True, px=int(self._life * 1000)):
            ends = places(self.topics)  # nobody else can write from here on
            with self._changing:
                self._reign += 1
                self._token = token
                self._until = now + self._life
                self._catching_up = ends

    def _catch_up(self) -> None:
        missing = {
            topic: end
            for topic, end in self._catching_up.items()
            if topic.unavailable or topic.log.position.epoch != end.epoch or topic.log.position.seq < end.seq
        }
        with self._changing:
            self._catching_up = missing

    def resign(self, redis: Any) -> None:
        """Lets another lead."""
        with self._changing:
            token, self._token = self._token, ""
        if token:
            redis.eval(_RESIGN, 1, self.key, token)
