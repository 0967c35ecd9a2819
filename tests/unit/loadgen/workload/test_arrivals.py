from __future__ import annotations

from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse_loadgen.workload.arrivals import Arrivals, arrival_times
from stillhouse_loadgen.workload.text import rng_of

rates = st.floats(min_value=0.01, max_value=10_000)
seeds = st.integers(min_value=0, max_value=2**32)


def first(count, arrivals, rate, seed):
    return list(islice(arrival_times(arrivals, rate, rng_of(seed)), count))


@given(st.sampled_from(Arrivals), rates, seeds)
def test_times_rise_and_repeat_with_their_seed(arrivals, rate, seed):
    """Times never fall, and equal seeds give equal times."""
    times = first(50, arrivals, rate, seed)

    assert sorted(times) == times
    assert times[0] >= 0
    assert times == first(50, arrivals, rate, seed)


@given(seeds)
def test_seeds_differ(seed):
    """Another seed is another process."""
    assert first(5, Arrivals.POISSON, 4, seed) != first(5, Arrivals.POISSON, 4, seed + 1)


@pytest.mark.parametrize("rate", [0.5, 4, 250])
def test_poisson_counts_have_their_mean_and_variance(rate):
    """In spans where ten are due on average, ten come, with a variance of ten."""
    span_s = 10 / rate
    end_s = 4000 * span_s
    times = takewhile(lambda at_s: at_s < end_s, arrival_times(Arrivals.POISSON, rate, rng_of(3)))
    counts = [0] * 4000
    for at_s in times:
        counts[int(at_s / span_s)] += 1
    mean = sum(counts) / 4000

    assert pytest.approx(10, rel=0.03) == mean
    assert pytest.approx(10, rel=0.10) == sum((count - mean) ** 2 for count in counts) / 4000


def test_constant_does_not_drift():
    """The thousandth of ten a second is due at 100 s, to the last digit."""
    assert 100.0 == first(1001, Arrivals.CONSTANT, 10, 0)[-1]
