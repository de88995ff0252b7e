"""What a server counts, as values: for tests, hosts and `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ..auth.audit_log import AuditLog
from ..auth.authenticator import Authenticator
from ..events.hub import EventHub
from ..events.store import StoreStatus
from ..net.connection import ConnectionState
from ..net.connection_limiter import ConnectionLimiter
from ..net.connection_registry import ConnectionRegistry
from ..net.worker_pool import WorkerPool
from ..rpc.table import RpcTable

__all__ = [
    "ConnectionStatistics",
    "JobStatistics",
    "MethodStatistics",
    "ServerStatistics",
    "StatisticsSource",
    "TopicStatistics",
]


_REFUSALS = ("refused", "denied", "rate limited", "login failed", "locked out")
"""Kinds of audit events that are refusals."""


class ConnectionStatistics(msgspec.Struct, frozen=True):
    """Connections.

    Attributes:
        by_state: how many there are in each state, under the values of `ConnectionState`.
        accepted: how many were accepted so far.
        bytes_received, bytes_sent: bytes of all connections so far.
        unsent_bytes: bytes that clients have not accepted yet.
        in_flight: calls that are not answered yet.
    """

    by_state: Mapping[str, int]
    accepted: int
    bytes_received: int
    bytes_sent: int
    unsent_bytes: int
    in_flight: int

    @property
    def total(self) -> int:
        """Connections in any state."""
        return sum(self.by_state.values())


class JobStatistics(msgspec.Struct, frozen=True):
    """One job class of the pool: jobs that run, and jobs in its queue."""

    running: int
    queued: int


class MethodStatistics(msgspec.Struct, frozen=True):
    """Calls of one method.

    Attributes:
        speed: how its calls are run, under the names of `Speed`.
        succeeded: calls with a result.
        errors: failed calls by error code.
        duration_buckets: durations up to each bound in seconds.
        duration_sum: the sum of all durations in seconds.
    """

    speed: str
    succeeded: int
    errors: Mapping[int, int]
    duration_buckets: list[tuple[str, float]]
    duration_sum: float


class TopicStatistics(msgspec.Struct, frozen=True):
    """One topic.

    Attributes:
        published: events so far in the present epoch.
        history: events that are kept.
        subscriptions: subscriptions to it.
        max_lag: events that its slowest unfiltered subscription has not received yet.
    """

    published: int
    history: int
    subscriptions: int
    max_lag: int


class ServerStatistics(msgspec.Struct, frozen=True):
    """A consistent-enough picture of one server: each number is exact, but they are not taken at the same instant.

    Attributes:
        connections: connections.
        idle_workers: workers without a job.
        is_led_in_reserve: whether no worker was idle to take over from a leader that a handler holds up; then only
            methods that were declared fast run.
        overdue_calls: calls past their timeout whose handlers still run, on threads that were replaced.
        jobs: by job class: `calls`, `logins`, `handshakes` and `requests`.
        methods: by name; only methods that were called.
        topics: by name.
        audit_events: events in the audit log, by kind.
        tracked_addresses: addresses whose logins are remembered, for lockouts.
        store: how the event store is, or None without one.
    """

    connections: ConnectionStatistics
    idle_workers: int
    is_led_in_reserve: bool
    overdue_calls: int
    jobs: Mapping[str, JobStatistics]
    methods: Mapping[str, MethodStatistics]
    topics: Mapping[str, TopicStatistics]
    audit_events: Mapping[str, int]
    tracked_addresses: int
    store: StoreStatus | None

    @property
    def refusals(self) -> Mapping[str, int]:
        """Clients and calls that were refused, by kind, also those of which there were none."""
        return {kind: self.audit_events.get(kind, 0) for kind in _REFUSALS}


class StatisticsSource(msgspec.Struct, frozen=True):
    """Takes statistics of one running server. Thread-safe.

    Attributes:
        registry, limiter, pool, rpc, events, authenticator, audit: what is counted.
    """

    registry: ConnectionRegistry
    limiter: ConnectionLimiter
    pool: WorkerPool
    rpc: RpcTable
    events: EventHub
    authenticator: Authenticator
    audit: AuditLog

    def take(self) -> ServerStatistics:
        """Return the present statistics."""
        return ServerStatistics(
            connections=self._connections(),
            idle_workers=self.pool.idle,
            is_led_in_reserve=self.pool.wake_when_idle,
            overdue_calls=self.pool.overdue,
            jobs={
                job_class.name: JobStatistics(job_class.running, len(job_class.queue))
                for job_class in self.pool.classes.all()
            },
            methods=self._methods(),
            topics=self._topics(),
            audit_events=dict(sorted(self.audit.counts.items())),
            tracked_addresses=self.authenticator.tracked_addresses,
            store=self.events.store_status,
        )

    def _connections(self) -> ConnectionStatistics:
        registry = self.registry
        connections = registry.all()
        by_state = {state.value: 0 for state in ConnectionState}
        for connection in connections:
            by_state[connection.state.value] += 1
        return ConnectionStatistics(
            by_state=by_state,
            accepted=self.limiter.accepted,
            bytes_received=registry.bytes_received,
            bytes_sent=registry.bytes_sent_closed + sum(connection.bytes_sent for connection in connections),
            unsent_bytes=sum(connection.unsent for connection in connections),
            in_flight=sum(connection.in_flight for connection in connections),
        )

    def _methods(self) -> dict[str, MethodStatistics]:
        return {
            method.name: MethodStatistics(
                speed=method.speed.name.lower(),
                succeeded=method.succeeded,
                errors=dict(method.errors),
                duration_buckets=method.durations.cumulative(),
                duration_sum=method.durations.total,
            )
            for method in self.rpc.methods().values()
            if method.succeeded or method.errors
        }

    def _topics(self) -> dict[str, TopicStatistics]:
        counts: dict[str, int] = {}
        lags: dict[str, int] = {}
        for cursor in self.events.cursors.all():
            name = cursor.topic.name
            counts[name] = counts.get(name, 0) + 1
            lags[name] = max(lags.get(name, 0), cursor.lag)
        names = {topic.name: topic for topic in self.events.topics()}
        return {
            name: TopicStatistics(
                published=topic.log.position.seq,
                history=len(topic.log),
                subscriptions=counts.get(name, 0),
                max_lag=lags.get(name, 0),
            )
            for name, topic in names.items()
        }
