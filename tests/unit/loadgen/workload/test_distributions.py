from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse_loadgen.client.duration import parse_duration
from stillhouse_loadgen.errors import ArgumentError
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
    with pytest.raises(ArgumentError, match=r"--input: '.*' is not a distribution; write 256"):
        parse_distribution(text, option="--input")


@pytest.mark.parametrize(
    ("text", "duration_s"), [("250ms", 0.25), ("1.5s", 1.5), ("5m", 300), ("2h", 7200)]
)
def test_durations(text, duration_s):
    """Units are milliseconds to hours."""
    assert pytest.approx(duration_s) == parse_duration(text, option="--duration")


@given(st.text(max_size=8).filter(lambda text: not text.strip().endswith(("s", "m", "h"))))
def test_other_text_is_no_duration(text):
    """Text without a unit is refused, and quoted."""
    with pytest.raises(ArgumentError) as raised:
        parse_duration(text, option="--duration")
    assert raised.value.message.startswith(f"--duration: '{text}' is not a duration")


@pytest.mark.parametrize(
    "text", ["0s", "-1s", "1e3s", "infs", "1 s", "s", "10s10s", "9" * 400 + "h"]
)
def test_durations_are_above_zero_and_finite(text):
    """A unit without a number above zero before it is refused, too."""
    with pytest.raises(ArgumentError, match=r"--duration: .* is not a duration"):
        parse_duration(text, option="--duration")
