"""Metrics of the API process, in a registry of its own so that two applications in one process do not mix."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Metrics:
    """Requests by route template, and the operations in the database at the time of the scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "perdure_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "perdure_http_request_seconds",
            "Time from the request's head to the end of its answer; streams are not observed",
            ["method", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.streams = Gauge("perdure_event_streams", "Event streams that are open", registry=self.registry)
        self.starts_deferred = Counter(
            "perdure_workflow_starts_deferred",
            "Workflow starts and requests left to the reconciler because Temporal did not take them",
            registry=self.registry,
        )
        self._operations = Gauge(
            "perdure_operations", "Operations in the database", ["kind", "state"], registry=self.registry
        )

    def request(self, method: str, route: str, status: int, seconds: float, *, stream: bool) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        if not stream:
            self._seconds.labels(method, route).observe(seconds)

    def operations(self, counts: dict[tuple[str, str], int]) -> None:
        """Set the numbers of operations by kind and state."""
        self._operations.clear()
        for (kind, state), count in counts.items():
            self._operations.labels(kind, state).set(count)

    def render(self) -> bytes:
        """Write all metrics in the Prometheus text format."""
        return generate_latest(self.registry)
