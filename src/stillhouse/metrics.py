"""Every Prometheus metric, in one place."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The metrics of one server; each has its own registry, so that tests can run many."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "stillhouse_requests",
            "Completions by how they ended",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "stillhouse_tokens",
            "Tokens that engines counted; kind is prompt, cached or completion",
            ["model", "kind"],
            registry=self.registry,
        )
        self.cost_picousd = Counter(
            "stillhouse_cost_picousd",
            "Charged, in pico-dollars (1e-12 USD)",
            ["model"],
            registry=self.registry,
        )
        self.outstanding = Gauge(
            "stillhouse_outstanding_requests",
            "Completions in flight",
            ["model"],
            registry=self.registry,
        )
        self.first_token_s = Histogram(
            "stillhouse_time_to_first_token_seconds",
            "From the request's arrival in serving to its first token",
            ["model"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.refused = Counter(
            "stillhouse_refused_requests",
            "Requests answered with an error, by HTTP status",
            ["status"],
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
