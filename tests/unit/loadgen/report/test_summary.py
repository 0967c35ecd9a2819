"""Numbers from records that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.report.goodput import GoodputTarget, is_good, parse_targets
from stillhouse_loadgen.report.summary import Latencies, summarize
from stillhouse_loadgen.report.timelines import in_flight, per_second, token_moments
from tests.unit.loadgen.records import record, refused


def test_percentiles():
    """Of 0 to 100 ms, each percentile is its own number; what is missing is left out."""
    found = Latencies.of([None, *(n / 1000 for n in range(101))])

    assert (101, 0.05, 0.05, 0.09, 0.095, 0.099, 0.1) == pytest.approx(
        (found.count, found.mean, found.p50, found.p90, found.p95, found.p99, found.max)
    )


def test_percentiles_of_nothing():
    """Where nothing was measured there is no number, and no zero in its place."""
    assert Latencies(0, None, None, None, None, None, None) == Latencies.of([None])


def test_latency_counts_from_when_it_was_due():
    """A request due at 1 s, sent at 3 s and answered at 3.1 s took 2.1 s, and was sent late."""
    late = record(1.0, sent_s=3.0, first_s=2.1, gaps_s=(0.4,))
    summary = summarize([late])

    assert (2.1, 2.5, 2.0, 1) == pytest.approx(
        (summary.ttft.p50, summary.e2e.p50, summary.send_delay.p50, summary.num_late)
    )


def test_time_per_token_is_by_the_servers_count():
    """Two gaps of 50 ms around eleven tokens are 10 ms a token, and 50 ms between chunks."""
    summary = summarize([record(completion_tokens=11)])

    assert (0.01, 0.05, 2) == pytest.approx((summary.tpot.p50, summary.itl.p50, summary.itl.count))


def test_rates():
    """Five requests a second apart, the last one answered at 4.2 s."""
    summary = summarize([record(float(due_s)) for due_s in range(5)])

    assert (1.0, 5 / 4.2, 15 / 4.2, 4.2) == pytest.approx(
        (
            summary.offered_per_second,
            summary.completed_per_second,
            summary.output_tokens_per_second,
            summary.duration_s,
        )
    )
    assert (50, 20, 15, 0.005) == pytest.approx(
        (
            summary.prompt_tokens,
            summary.cached_tokens,
            summary.completion_tokens,
            summary.cost_usd,
        )
    )


def test_unknown_is_not_zero():
    """An answer whose length nobody told is whole, and counted as unknown."""
    summary = summarize([record(completion_tokens=None, cost_usd=None)])

    assert (1, 1, None, 0) == (
        summary.num_completed,
        summary.num_without_usage,
        summary.cost_usd,
        summary.tpot.count,
    )


def test_failures_by_kind():
    """Refusals have latencies of their own, which are not among those of answers."""
    broken = record(failure="disconnected", message=None)
    records = [record(), refused(after_s=0.02), refused(after_s=0.04, retry_after=None), broken]
    summary = summarize(records)
    busy = summary.failures["http_429"]

    assert (1, 1) == (summary.num_completed, summary.ttft.count)
    assert ["http_429", "disconnected"] == list(summary.failures)
    assert (2, 1, 0.03, "Model busy") == pytest.approx(
        (busy.count, busy.num_with_retry_after, busy.latency.p50, busy.message)
    )


def test_keys_add_up():
    """Each key has its own numbers, over the same time, so that their rates add up."""
    records = [
        *(record(due_s / 10, key="a") for due_s in range(20)),
        *(record(due_s / 10, key="b", first_s=0.5) for due_s in range(5)),
        refused(1.0, key="b"),
    ]
    summary = summarize(records, parse_targets(["ttft:200ms"]))
    a, b = summary.by_key["a"], summary.by_key["b"]

    assert (20, 6, 26) == (a.num_requests, b.num_requests, summary.num_requests)
    assert pytest.approx((0.1, 0.5)) == (a.ttft.p95, b.ttft.p95)
    assert (1.0, 0.0) == (a.goodput.share, b.goodput.share)
    assert pytest.approx(summary.completed_per_second) == (
        a.completed_per_second + b.completed_per_second
    )
    assert ({}, 1) == (a.failures, b.failures["http_429"].count)


def test_one_key_is_not_told_twice():
    """Where there is one key, its numbers are those of the run."""
    assert {} == summarize([record()]).by_key


def test_nothing_at_all():
    """A run in which nothing was due has a summary, too."""
    summary = summarize([], parse_targets(["ttft:1s"]))

    assert (0, 0.0, 0.0) == (
        summary.num_requests,
        summary.completed_per_second,
        summary.goodput.share,
    )


@pytest.mark.parametrize(
    ("targets", "good"),
    [
        ("ttft:100ms", True),
        ("ttft:99ms", False),
        ("itl:51ms", True),
        ("itl:49ms", False),
        ("max_itl:80ms", True),
        ("max_itl:60ms", False),
        ("tpot:51ms,e2e:200ms", True),
        ("tpot:51ms,e2e:199ms", False),
    ],
)
def test_goodput_targets(targets, good):
    """An answer is good when it meets every target."""
    answer = record(1.0, first_s=0.1, gaps_s=(0.03, 0.07), first_token_s=1.1, end_s=1.2)
    answer.intended_s = 1.0 + 1e-9  # so that 100 ms are not a rounding more
    assert good == is_good(answer, parse_targets([targets]))


def test_failures_are_never_good():
    """They count among the requests, though."""
    goodput = summarize([record(), refused()], parse_targets(["e2e:1h"])).goodput

    assert (1, 0.5) == (goodput.count, goodput.share)


def test_answer_of_one_token_has_no_gap_to_be_late():
    """Where there is nothing to measure, a target is met."""
    assert is_good(record(gaps_s=(), completion_tokens=1), parse_targets(["itl:1ms,tpot:1ms"]))


def test_targets_as_written():
    """Commas, spaces and repeated options are the same."""
    expected = (GoodputTarget("ttft", 2.0), GoodputTarget("itl", 0.1))

    assert expected == parse_targets(["ttft:2s,itl:100ms"])
    assert expected == parse_targets(["ttft:2s", "itl:100ms"])


@pytest.mark.parametrize("text", ["ttft", "ttft:", "ttft:2", "ttfb:2s", "ttft:-2s"])
def test_wrong_targets(text):
    """The message says what was written and what there is."""
    with pytest.raises(ArgumentError, match="--goodput"):
        parse_targets([text])


times = st.floats(0, 100)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=30))
def test_in_flight_is_never_below_zero(spans):
    """What was sent has ended in the end."""
    records = [record(sent_s=a, end_s=a + b) for a, b in spans]
    moments_s, counts = in_flight(records)

    assert np.all(np.diff(moments_s) >= 0)
    assert np.all(counts >= 0)
    assert 0 == counts[-1]


def test_tokens_over_time():
    """Eleven tokens in three chunks: as many in all, spread over when chunks came."""
    moments_s, weights = token_moments([record(0.5, first_s=0.4, completion_tokens=11)])

    assert pytest.approx([0.9, 0.95, 1.0]) == moments_s
    assert pytest.approx([22 / 3, 11 / 3]) == per_second([0.9, 0.95, 1.0], weights, 1.5)
