"""Defines every Prometheus metric, and the rates of the last minute."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    generate_latest,
)

from stillhouse.clock import Clock, SystemClock

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """
    Holds the metrics of one server in a registry of its own, so that tests can run many.

    Args:
        clock: Clock of the last minute's rates; None takes the machine's.

    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.last_minute = LastMinute(clock or SystemClock())
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
            "Completions that are not settled yet, including waiting ones",
            ["model"],
            registry=self.registry,
        )
        self.model_state = Gauge(
            "stillhouse_model_state",
            "1 for the state that a model is in: stopped, loading, serving, draining or failed",
            ["model", "state"],
            registry=self.registry,
        )
        self.waiting = Gauge(
            "stillhouse_waiting_requests",
            "Completions in the queue of an engine",
            ["model", "tier"],
            registry=self.registry,
        )
        self.queue_s = Histogram(
            "stillhouse_time_in_queue_seconds",
            "Time of completions in the queue",
            ["model", "tier"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.queue_refused = Counter(
            "stillhouse_queue_refusals",
            "Completions answered with 429; reason is full, share, limit, fail_fast or waited",
            ["model", "reason"],
            registry=self.registry,
        )
        self.first_token_s = Histogram(
            "stillhouse_time_to_first_token_seconds",
            "Time from a request's arrival to its first token",
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
        self.http_connections = Gauge(
            "stillhouse_http_connections",
            "Open connections",
            registry=self.registry,
        )
        self.http_connections_closed = Counter(
            "stillhouse_http_connections_closed",
            "Connections that the server ended, by the bound that was reached",
            ["reason"],
            registry=self.registry,
        )

        self.grammar_s = Summary(
            "stillhouse_grammar_compile_seconds",
            "Time of grammar compilations; where is check (before admission) or engine",
            ["model", "where"],
            registry=self.registry,
        )
        self.ledger_lost = Gauge(
            "stillhouse_ledger_lost",
            "1 while a file of the ledger is deleted, replaced or cut short: nothing is admitted",
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


@dataclass(slots=True)
class _Second:
    """Counts the events of one second of the clock."""

    number: int = -1
    num_requests: int = 0
    num_waits: int = 0
    waits_s: float = 0.0
    num_tokens: Tally[str] = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class MinuteRates:
    """
    The rates of the last minute.

    Args:
        first_token_s: Mean wait for a first token; None where no request had one.
        tokens_per_s: Tokens generated per second, by model; only models that generated some.

    """

    requests_per_s: float
    first_token_s: float | None
    tokens_per_s: dict[str, float]


class LastMinute:
    """Sums over the last sixty whole seconds, in a ring of sixty-one entries."""

    _SECONDS = 60

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ring = [_Second() for _ in range(self._SECONDS + 1)]

    def record_request(self) -> None:
        """Counts a request that was admitted."""
        self._now().num_requests += 1

    def record_first_token(self, waited_s: float) -> None:
        """Counts a first token and its wait."""
        now = self._now()
        now.num_waits += 1
        now.waits_s += waited_s

    def record_tokens(self, model_id: str, count: int) -> None:
        """Counts generated tokens."""
        self._now().num_tokens[model_id] += count

    def rates(self) -> MinuteRates:
        """Returns the rates of the sixty seconds before this one."""
        now = self._second_number()
        past = [second for second in self._ring if now - self._SECONDS <= second.number < now]
        num_waits = sum(second.num_waits for second in past)
        waits_s = sum(second.waits_s for second in past)
        num_tokens = sum((second.num_tokens for second in past), Tally[str]())
        return MinuteRates(
            requests_per_s=sum(second.num_requests for second in past) / self._SECONDS,
            first_token_s=waits_s / num_waits if num_waits else None,
            tokens_per_s={model: n / self._SECONDS for model, n in num_tokens.items()},
        )

    def _now(self) -> _Second:
        number = self._second_number()
        index = number % len(self._ring)
        if self._ring[index].number != number:
            self._ring[index] = _Second(number)
        return self._ring[index]

    def _second_number(self) -> int:
        return int(self._clock.monotonic_s())
