"""``GET /v1/metrics/live``: public rates over the last minute."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from stillhouse.api.http.operation import Operation, declares
from stillhouse.api.http.routing import json_response
from stillhouse.telemetry.metrics import Metrics


class LiveMetricsOut(TypedDict):
    """
    Rates over the last minute.

    `time_to_first_token`, in seconds, is null if no request had one, and `total_tflops` always, as
    it is not measured.
    """

    tokens_per_second: float
    time_to_first_token: float | None
    requests_per_second: float
    total_tflops: None


@dataclass(frozen=True, slots=True)
class LiveMetrics:
    """The endpoint of public rates, with DeepInfra's names."""

    metrics: Metrics

    @declares(Operation("Rates over the last minute", response=LiveMetricsOut))
    async def show(self, _request: Request) -> Response:
        """Returns the rates over the last minute."""
        rates = self.metrics.last_minute.rates()
        body: LiveMetricsOut = {
            "tokens_per_second": sum(rates.tokens_per_s.values()),
            "time_to_first_token": rates.first_token_s,
            "requests_per_second": rates.requests_per_s,
            "total_tflops": None,
        }
        return json_response(body)
