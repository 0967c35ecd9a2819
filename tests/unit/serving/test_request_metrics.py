from __future__ import annotations

from stillhouse.clock import FrozenClock
from stillhouse.engines.base import GenerateStep
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.telemetry.metrics import Metrics, MinuteRates
from stillhouse.types.usage import TokenUsage


def step(*token_ids):
    return GenerateStep(token_ids, TokenUsage())


def test_the_last_minute_is_told_of_every_token():
    """The wait ends with the first token, of whichever answer; tokens are counted as they come."""
    clock = FrozenClock()
    metrics = Metrics(clock)
    metrics_of_request = RequestMetrics(clock, metrics, "a/b")
    clock.advance(0.25)
    metrics_of_request.record_step(step())
    clock.advance(0.25)
    metrics_of_request.record_step(step(5))
    clock.advance(1)
    metrics_of_request.record_step(step(6, 7))
    clock.advance(1)

    assert MinuteRates(1 / 60, 0.5, {"a/b": 3 / 60}) == metrics.last_minute.rates()
    assert 2500 == metrics_of_request.elapsed_ms()
