"""What the server counts, in the text format of Prometheus (extra `prometheus`).

Counting costs a few additions where things happen; putting it together is done when somebody asks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..auth.audit_log import AuditLog
    from ..events.hub import EventHub
    from ..net.transport import Transport
    from ..rpc.method import Method

__all__ = ["CONTENT_TYPE", "HostGauges", "MissingExtraError", "PrometheusCollector"]

logger = logging.getLogger("dilithion_ws")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PREFIX = "dilithion_ws_"


class MissingExtraError(RuntimeError):
    """The library that writes the format is not installed."""


class HostGauges:
    """Numbers of the host's own, which it gives when somebody asks. Thread-safe."""

    def __init__(self) -> None:
        self._gauges: dict[str, tuple[str, Callable[[], float | None]]] = {}

    def add(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Adds one; see `WebSocketServer.gauge`. Raises ConfigError."""
        gauge = text, read
        fits = _NAME.fullmatch(name) and not name.startswith(_PREFIX)
        if not fits or self._gauges.setdefault(name, gauge) is not gauge:
            wanted = f"letters, digits and _, not beginning with {_PREFIX}, and not in use"
            raise ConfigError(f"{name[:64]!r} is no name for a gauge of the host: {wanted}")

    def collect(self) -> Iterator[Any]:
        """Those that can be read now."""
        from prometheus_client.core import GaugeMetricFamily

        for name, (text, read) in list(self._gauges.items()):  # a thread may add one meanwhile
            try:
                value = read()
                if value is not None:
                    yield GaugeMetricFamily(name, text, value=float(value))
            except Exception:
                logger.exception("the gauge %s can't be read; it is left out", name)


class PrometheusCollector:
    """Collects the numbers of one server.

    Args:
        methods: all methods at this moment, by name.
        events: the topics.
        audit: counts what was refused.
        transport: the connections and the pool; None while there are none.
        gauges: the host's own.
    """

    def __init__(self, methods: Any, events: EventHub, audit: AuditLog, transport: Any, gauges: HostGauges) -> None:
        self._methods = methods
        self._events = events
        self._audit = audit
        self._transport = transport
        self._gauges = gauges

    def render(self) -> bytes:
        """The text. Raises MissingExtraError."""
        try:
            from prometheus_client import CollectorRegistry, generate_latest
        except ImportError:
            raise MissingExtraError(
                "metrics need the extra prometheus (pip install dilithion-ws[prometheus])"
            ) from None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        text: bytes = generate_latest(registry)
        return text

    def collect(self) -> Iterator[Any]:
        """All families of metrics, as prometheus_client asks for them."""
        transport: Transport | None = self._transport()
        if transport is not None:
            yield from self._of_transport(transport)
        yield from self._of_methods(list(self._methods().values()))
        yield from self._of_events()
        yield _family(
            "counter",
            "refusals",
            "What was noted in the audit log, by event",
            ["event"],
            [([event], count) for event, count in sorted(self._audit.counts.items())],
        )
        yield from self._gauges.collect()

    def _of_transport(self, transport: Transport) -> Iterator[Any]:
        hub, pool = transport.loop.hub, transport.pool
        connections = hub.all()
        states: dict[str, int] = {}
        for connection in connections:
            states[connection.state.value] = states.get(connection.state.value, 0) + 1
        yield _family("gauge", "connections", "Connections, by state", ["state"], [([k], v) for k, v in states.items()])
        yield _family(
            "counter", "connections_accepted", "Connections accepted", [], [([], transport.admission.accepted)]
        )
        sent = hub.bytes_out + sum(connection.sent for connection in connections)
        yield _family(
            "counter", "bytes", "Bytes received and sent", ["direction"], [(["in"], hub.bytes_in), (["out"], sent)]
        )
        unsent = sum(connection.unsent for connection in connections)
        yield _family("gauge", "unsent_bytes", "Bytes that clients have not taken yet", [], [([], unsent)])
        lanes = (("calls", pool.calls), ("logins", pool.logins), ("handshakes", pool.handshakes))
        yield _family(
            "gauge", "queue", "Jobs that wait for a worker", ["lane"], [([n], len(x.waiting)) for n, x in lanes]
        )
        yield _family("gauge", "running", "Jobs in a worker", ["lane"], [([n], x.running) for n, x in lanes])
        yield _family("gauge", "workers_free", "Workers that have nothing to do", [], [([], pool.free)])

    def _of_methods(self, methods: list[Method]) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        called = [method for method in methods if method.succeeded or method.errors]
        rows = [([method.name, "ok"], method.succeeded) for method in called]
        rows += [([method.name, str(code)], count) for method in called for code, count in method.errors.items()]
        yield _family("counter", "calls", "Calls, by method and outcome", ["method", "outcome"], rows)
        family = HistogramMetricFamily(f"{_PREFIX}call_seconds", "How long handlers took", labels=["method"])
        for method in called:
            buckets, total = method.times.cumulative()
            family.add_metric([method.name], buckets, total)
        yield family

    def _of_events(self) -> Iterator[Any]:
        topics = self._events.topics()
        heads = [([topic.name], topic.log.position.seq) for topic in topics]
        yield _family("counter", "events", "Events published, by topic", ["topic"], heads)
        yield _family("gauge", "history", "Events kept", ["topic"], [([t.name], len(t.log)) for t in topics])
        lag: dict[str, int] = {}
        count: dict[str, int] = {}
        for subscription in self._events.all():
            topic = subscription.stream.topic
            count[topic.name] = count.get(topic.name, 0) + 1
            behind = topic.log.position.seq - subscription.position.seq if subscription.stream.filter is None else 0
            lag[topic.name] = max(lag.get(topic.name, 0), behind)
        yield _family("gauge", "subscriptions", "Subscriptions", ["topic"], [([n], v) for n, v in count.items()])
        yield _family(
            "gauge",
            "lag",
            "Events that the slowest subscriber is behind",
            ["topic"],
            [([n], v) for n, v in lag.items()],
        )


def _family(kind: str, name: str, text: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(f"{_PREFIX}{name}", text, labels=labels)
    for values, number in rows:
        made.add_metric(values, number)
    return made
