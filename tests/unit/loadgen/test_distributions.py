from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.errors import ConfigError
from stillhouse_loadgen.client.spans import parse_span
from stillhouse_loadgen.workload.distributions import parse_distribution
from stillhouse_loadgen.workload.text import rng_of


def drawn(text, count=20_000):
    distribution, rng = parse_distribution(text, option="--input"), rng_of(1)
    return [distribution.draw(rng) for _ in range(count)]


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("256", 256, 0),
        ("uniform:100-300", 200, 57.7),
        ("lognormal:256,200", 256, 200),
        ("exponential:2.5", 2.5, 2.5),
    ],
)
def test_mean_and_deviation_are_as_told(text, mean, deviation):
    """Over many draws of a fixed seed, each distribution has the moments it is named by."""
    amounts = drawn(text)
    found = sum(amounts) / len(amounts)
    spread = (sum((amount - found) ** 2 for amount in amounts) / len(amounts)) ** 0.5

    assert pytest.approx(mean, rel=0.03) == found
    assert pytest.approx(deviation, rel=0.08) == spread
    assert min(amounts) >= 0


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0.5, 2), (10, 4000)])
def test_uniform_stays_within_its_bounds(low, high):
    """Nothing is drawn below the lower bound or above the upper one."""
    amounts = drawn(f"uniform:{low}-{high}", 1000)

    assert all(low <= amount <= high for amount in amounts)


@pytest.mark.parametrize(
    "text", ["", "-1", "many", "uniform:9-3", "uniform:3", "lognormal:0,1", "lognormal:5", "nan"]
)
def test_what_is_no_distribution_is_refused(text):
    """The message names the option, what was written, and what would be right."""
    with pytest.raises(ConfigError, match=r"--input: '.*' is no distribution; write 256"):
        parse_distribution(text, option="--input")


@pytest.mark.parametrize(
    ("text", "span_s"), [("250ms", 0.25), ("1.5s", 1.5), ("5m", 300), ("2h", 7200)]
)
def test_spans(text, span_s):
    """Units are milliseconds to hours."""
    assert pytest.approx(span_s) == parse_span(text, option="--duration")


@given(st.text(max_size=8).filter(lambda text: not text.strip().endswith(("s", "m", "h"))))
def test_other_text_is_no_span(text):
    """What has no unit is refused, and quoted."""
    with pytest.raises(ConfigError) as raised:
        parse_span(text, option="--duration")
    assert raised.value.message.startswith(f"--duration: '{text}' is no span of time")


@pytest.mark.parametrize(
    "text", ["0s", "-1s", "1e3s", "infs", "1 s", "s", "10s10s", "9" * 400 + "h"]
)
def test_spans_are_above_zero_and_finite(text):
    """So is what has a unit, but no number above zero before it."""
    with pytest.raises(ConfigError, match=r"--duration: .* is no span of time"):
        parse_span(text, option="--duration")
