"""Records one request in the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter, Histogram

from stillhouse.billing.outcome import Outcome
from stillhouse.clock import Clock
from stillhouse.engines.base import GenerateStep
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.usage import TokenUsage

Metric = TypeVar("Metric", Counter, Histogram)


@dataclass(slots=True)
class RequestMetrics:
    """Counts and times one request for the metrics."""

    clock: Clock
    metrics: Metrics
    model_id: str
    _started_s: float = 0.0
    _has_token: bool = False

    def __post_init__(self) -> None:
        self._started_s = self.clock.monotonic_s()
        self.metrics.last_minute.record_request()

    def record_step(self, step: GenerateStep) -> None:
        """Records an engine's step: its tokens, and the time to the first one."""
        if not step.token_ids:
            return
        self.metrics.last_minute.record_tokens(self.model_id, len(step.token_ids))
        if not self._has_token:
            self._has_token = True
            waited_s = self.clock.monotonic_s() - self._started_s
            _labelled(self.metrics.first_token_s, self.model_id).observe(waited_s)
            self.metrics.last_minute.record_first_token(waited_s)

    def elapsed_ms(self) -> int:
        """Returns how long ago the request was admitted."""
        return round(1000 * (self.clock.monotonic_s() - self._started_s))

    def record_end(self, outcome: Outcome, usage: TokenUsage, cost_picousd: int) -> None:
        """Records outcome, usage and cost, once the ledger row is durable."""
        _labelled(self.metrics.requests, self.model_id, outcome).inc()
        _labelled(self.metrics.cost_picousd, self.model_id).inc(cost_picousd)
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            _labelled(self.metrics.tokens, self.model_id, kind).inc(count)


@lru_cache(maxsize=1024)
def _labelled(metric: Metric, *labels: str) -> Metric:
    """Returns a labelled metric; the library's own look-up takes longer than counting."""
    return metric.labels(*labels)
