"""Statistics in the text format of Prometheus (extra `prometheus`)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import ConfigError
from ..events.store import StoreStatus
from .statistics import ServerStatistics, StatisticsSource

__all__ = ["CONTENT_TYPE", "HostGauges", "MissingExtraError", "PrometheusCollector"]

logger = logging.getLogger("dilithion_ws")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PREFIX = "dilithion_ws_"


class MissingExtraError(RuntimeError):
    """The library that writes the format is not installed."""


class HostGauges:
    """Numbers of the host, which are read for each request. Thread-safe."""

    def __init__(self) -> None:
        self._gauges: dict[str, tuple[str, Callable[[], float | None]]] = {}
        self._texts: tuple[Callable[[], bytes], ...] = ()

    def add(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Add a gauge. See `WebSocketServer.gauge`. Raises ConfigError."""
        gauge = text, read
        valid = _NAME.fullmatch(name) and not name.startswith(_PREFIX)
        if not valid or self._gauges.setdefault(name, gauge) is not gauge:
            expected = f"letters, digits and _, not beginning with {_PREFIX}, and not in use"
            raise ConfigError(f"{name[:64]!r} is not a name for a gauge of the host: {expected}")

    def add_text(self, read: Callable[[], bytes]) -> None:
        """Append what a function returns to the metrics of each request: lines in the same format, of other names."""
        self._texts = (*self._texts, read)

    def texts(self) -> Iterator[bytes]:
        """Yield the lines to append."""
        for read in self._texts:
            try:
                yield read()
            except Exception as error:
                logger.warning("metrics of the host can't be read, and are left out: %s", error)

    def collect(self) -> Iterator[Any]:
        """Yield the gauges that have a value."""
        from prometheus_client.core import GaugeMetricFamily

        for name, (text, read) in list(self._gauges.items()):  # another thread may add one meanwhile
            try:
                value = read()
                if value is not None:
                    yield GaugeMetricFamily(name, text, value=float(value))
            except Exception:
                logger.exception("the gauge %s can't be read; it is left out", name)


class PrometheusCollector:
    """Renders the statistics of one server.

    Args:
        source: takes the statistics.
        gauges: the host's gauges.
    """

    def __init__(self, source: StatisticsSource, gauges: HostGauges) -> None:
        self._source = source
        self._gauges = gauges

    def render(self) -> bytes:
        """Return the text. Raises MissingExtraError."""
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError:
            raise MissingExtraError(
                "metrics need the package prometheus-client: pip install prometheus-client"
            ) from None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        own: bytes = generate_latest(registry)
        return b"".join((own, *self._gauges.texts()))

    def collect(self) -> Iterator[Any]:
        """Yield all families of metrics. `prometheus_client` calls this."""
        statistics = self._source.take()
        yield from _connection_families(statistics)
        yield from _pool_families(statistics)
        yield from _method_families(statistics)
        yield from _topic_families(statistics)
        if statistics.store is not None:
            yield from _store_families(statistics.store)
        rows = [((event,), count) for event, count in statistics.refusals.items()]
        yield _family("counter", "refusals", "Clients and calls that were refused", ("event",), rows)
        rows = [((event,), count) for event, count in statistics.audit_events.items()]
        yield _family("counter", "audit_events", "Events in the audit log", ("event",), rows)
        yield from self._gauges.collect()


_Row = tuple[tuple[str, ...], float]


def _connection_families(statistics: ServerStatistics) -> Iterator[Any]:
    connections = statistics.connections
    rows: list[_Row] = [((state,), count) for state, count in connections.by_state.items()]
    yield _family("gauge", "connections", "Connections by state", ("state",), rows)
    yield _family("counter", "connections_accepted", "Connections accepted", (), [((), connections.accepted)])
    rows = [(("in",), connections.bytes_received), (("out",), connections.bytes_sent)]
    yield _family("counter", "bytes", "Bytes received and sent", ("direction",), rows)
    text = "Bytes that clients have not accepted yet"
    yield _family("gauge", "unsent_bytes", text, (), [((), connections.unsent_bytes)])


def _pool_families(statistics: ServerStatistics) -> Iterator[Any]:
    jobs = statistics.jobs
    rows: list[_Row] = [((name,), job_class.queued) for name, job_class in jobs.items()]
    yield _family("gauge", "queue", "Jobs that wait for a worker", ("lane",), rows)
    rows = [((name,), job_class.running) for name, job_class in jobs.items()]
    yield _family("gauge", "running", "Jobs that run", ("lane",), rows)
    text = "Calls past their timeout whose handlers still run"
    yield _family("gauge", "overdue_calls", text, (), [((), statistics.overdue_calls)])
    yield _family("gauge", "workers_free", "Workers without a job", (), [((), statistics.idle_workers)])


def _method_families(statistics: ServerStatistics) -> Iterator[Any]:
    from prometheus_client.core import HistogramMetricFamily

    methods = statistics.methods.items()
    rows: list[_Row] = [((name, "ok"), method.succeeded) for name, method in methods]
    rows += [((name, str(code)), count) for name, method in methods for code, count in method.errors.items()]
    yield _family("counter", "calls", "Calls by method and outcome", ("method", "outcome"), rows)
    rows = [((name, method.speed), 1) for name, method in methods]
    text = "How calls of a method are run: declared or measured as fast, unknown, or slow, and so in the pool"
    yield _family("gauge", "method_speed", text, ("method", "speed"), rows)
    family = HistogramMetricFamily(f"{_PREFIX}call_seconds", "Duration of handlers", labels=["method"])
    for name, method in methods:
        family.add_metric([name], method.duration_buckets, method.duration_sum)
    yield family


def _topic_families(statistics: ServerStatistics) -> Iterator[Any]:
    topics = statistics.topics.items()
    rows: list[_Row] = [((name,), topic.published) for name, topic in topics]
    yield _family("counter", "events", "Events published by topic", ("topic",), rows)
    rows = [((name,), topic.history) for name, topic in topics]
    yield _family("gauge", "history", "Events kept by topic", ("topic",), rows)
    rows = [((name,), topic.subscriptions) for name, topic in topics]
    yield _family("gauge", "subscriptions", "Subscriptions by topic", ("topic",), rows)
    rows = [((name,), topic.max_lag) for name, topic in topics]
    yield _family("gauge", "lag", "Events that the slowest subscriber has not received", ("topic",), rows)


def _store_families(store: StoreStatus) -> Iterator[Any]:
    up = 0 if store.fault else 1
    yield _family("gauge", "store_up", "Whether the event store can be used", ("store",), [((store.kind,), up)])
    text = "Stored events that were not as they had been written"
    yield _family("counter", "store_damaged_events", text, ("store",), [((store.kind,), store.damaged)])


def _family(kind: str, name: str, text: str, labels: tuple[str, ...], rows: Iterable[_Row]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
        f"{_PREFIX}{name}", text, labels=list(labels)
    )
    for values, number in rows:
        family.add_metric(list(values), number)
    return family
