"""Summarises a run from its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from stillhouse_loadgen.record import Failure, RequestRecord
from stillhouse_loadgen.report.goodput import GoodputTarget, is_good

#: A request sent this long after it was due counts as sent late by the client.
LATE_S = 0.010


class Latencies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The distribution of a latency, in seconds; None where there were no values."""

    count: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values_s: Iterable[float | None]) -> Latencies:
        """Returns the distribution of all values but None; percentiles are interpolated."""
        values = np.array([value for value in values_s if value is not None], dtype=np.float64)
        if not values.size:
            return cls(0)
        p50, p90, p95, p99 = (float(p) for p in np.percentile(values, [50, 90, 95, 99]))
        return cls(int(values.size), float(values.mean()), p50, p90, p95, p99, float(values.max()))


class FailureSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Requests that failed in the same way.

    Args:
        num_with_retry_after: How many responses had a Retry-After header.
        latency: From when each was due to its failure.
        message: The server's message, of the first one.

    """

    count: int
    num_with_retry_after: int
    latency: Latencies
    message: str | None


class Goodput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Requests that met every target.

    Args:
        share: Relative to all requests that were due, failed ones included.
        per_second: Their number per second.

    """

    targets: tuple[GoodputTarget, ...]
    count: int
    share: float
    per_second: float


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    The figures of a run, or of one key in it, without the warm-up.

    Args:
        num_requests: All requests that were due.
        num_late: Requests sent more than 10 ms after they were due: the client could not keep up.
        num_without_usage: Complete answers without a usage.
        duration_s: From when the first request was due to the last one's end.
        offered_per_second: Requests due, over the time until the last one was due.
        completed_per_second: Complete answers over `duration_s`; as are the tokens.
        send_delay: From when requests were due until they were sent.
        itl: Each gap between two chunks of complete answers.
        tpot: Time per output token of each request.
        failures: By kind.
        by_key: By the label of the API key; empty with a single key.

    """

    num_requests: int
    num_completed: int
    num_not_sent: int
    num_late: int
    num_without_usage: int
    duration_s: float
    offered_per_second: float
    completed_per_second: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    output_tokens_per_second: float
    cost_usd: float | None
    send_delay: Latencies
    ttft: Latencies
    itl: Latencies
    tpot: Latencies
    e2e: Latencies
    goodput: Goodput | None
    finish_reasons: dict[str, int]
    failures: dict[str, FailureSummary]
    by_key: dict[str, Summary]


def summarize(records: Iterable[RequestRecord], targets: Sequence[GoodputTarget] = ()) -> Summary:
    """Returns the summary of *records*."""
    counted = [record for record in records if not record.is_warmup]
    keys = sorted({record.key for record in counted})
    span = _Span.of(counted)
    by_key = {
        key: _summary([r for r in counted if r.key == key], targets, span, {}) for key in keys
    }
    return _summary(counted, targets, span, by_key if len(keys) > 1 else {})


class _Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time that rates refer to: the same for all keys, so that their rates add up."""

    offered_s: float
    duration_s: float

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> _Span:
        first_s = min((r.intended_s for r in records), default=0.0)
        last_s = max((r.intended_s for r in records), default=0.0)
        ends_s = (r.end_s for r in records if r.end_s is not None)
        return cls(last_s - first_s, max(ends_s, default=last_s) - first_s)


def _summary(
    records: Sequence[RequestRecord],
    targets: Sequence[GoodputTarget],
    span: _Span,
    by_key: dict[str, Summary],
) -> Summary:
    whole = [record for record in records if record.is_whole]
    costs = [record.cost_usd for record in records if record.cost_usd is not None]
    completion_tokens = sum(record.completion_tokens or 0 for record in records)
    delays_s = [record.send_delay_s for record in records]
    return Summary(
        num_requests=len(records),
        num_completed=len(whole),
        num_not_sent=sum(record.failure == Failure.NOT_SENT for record in records),
        num_late=sum(delay_s is not None and delay_s > LATE_S for delay_s in delays_s),
        num_without_usage=sum(record.completion_tokens is None for record in whole),
        duration_s=span.duration_s,
        offered_per_second=_rate(max(0, len(records) - 1), span.offered_s),
        completed_per_second=_rate(len(whole), span.duration_s),
        prompt_tokens=sum(record.prompt_tokens or 0 for record in records),
        cached_tokens=sum(record.cached_tokens or 0 for record in records),
        completion_tokens=completion_tokens,
        output_tokens_per_second=_rate(completion_tokens, span.duration_s),
        cost_usd=sum(costs) if costs else None,
        send_delay=Latencies.of(delays_s),
        ttft=Latencies.of(record.ttft_s for record in whole),
        itl=Latencies.of(gap_s for record in whole for gap_s in record.gaps_s),
        tpot=Latencies.of(record.tpot_s for record in whole),
        e2e=Latencies.of(record.e2e_s for record in whole),
        goodput=_goodput(records, targets, span) if targets else None,
        finish_reasons=dict(Counter(r.finish_reason for r in whole if r.finish_reason)),
        failures=_failures(records),
        by_key=by_key,
    )


def _goodput(
    records: Sequence[RequestRecord], targets: Sequence[GoodputTarget], span: _Span
) -> Goodput:
    count = sum(is_good(record, targets) for record in records)
    share = count / len(records) if records else 0.0
    return Goodput(tuple(targets), count, share, _rate(count, span.duration_s))


def _failures(records: Sequence[RequestRecord]) -> dict[str, FailureSummary]:
    kinds = Counter(record.failure for record in records if record.failure is not None)
    return {
        kind: _failure([record for record in records if record.failure == kind])
        for kind, _ in kinds.most_common()
    }


def _failure(records: Sequence[RequestRecord]) -> FailureSummary:
    return FailureSummary(
        count=len(records),
        num_with_retry_after=sum(record.retry_after is not None for record in records),
        latency=Latencies.of(record.e2e_s for record in records),
        message=next((record.message for record in records if record.message), None),
    )


def _rate(count: float, span_s: float) -> float:
    return count / span_s if span_s > 0 else 0.0
