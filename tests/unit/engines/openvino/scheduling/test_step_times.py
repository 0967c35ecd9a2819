"""What steps take, learnt from durations that are given."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.engines.openvino.scheduling.step_times import StepTimes

observations = st.lists(
    st.tuples(st.integers(1, 2000), st.floats(1e-4, 100.0)), min_size=1, max_size=60
)


def times_of(*steps: tuple[int, float]) -> StepTimes:
    times = StepTimes()
    for num_tokens, duration_s in steps:
        times.observe(num_tokens, duration_s)
    return times


def test_nothing_is_predicted_before_the_first_step():
    """Who asks too early is told so, not something made up."""
    times = StepTimes()
    assert (None, None) == (times.predict_s(1), times.most_tokens_within(1.0, 100))


def test_what_was_seen_is_predicted():
    """A single step of a size is the prediction for that size."""
    times = times_of((1, 0.07), (32, 0.2), (256, 1.3))
    assert [0.07, 0.2, 1.3] == [times.predict_s(n) for n in (1, 32, 256)]


def test_between_two_sizes_it_is_interpolated():
    """Half-way between two sizes lies half-way between their durations."""
    times = times_of((10, 0.1), (30, 0.3))
    assert pytest.approx(0.2) == times.predict_s(20)


def test_a_power_of_two_is_apart_from_the_next_larger_step():
    """What one token more than a full tile takes is not held against the full tile."""
    times = times_of((64, 0.27), (65, 0.40))
    assert [0.27, 0.40] == [times.predict_s(64), times.predict_s(65)]


def test_outside_of_what_was_seen_it_is_rather_too_long():
    """A smaller step takes what the smallest took; a larger one grows in proportion."""
    times = times_of((8, 0.1), (16, 0.15))
    assert (0.1, pytest.approx(0.6)) == (times.predict_s(1), times.predict_s(64))


def test_new_durations_take_the_place_of_old_ones():
    """When the machine becomes busy the prediction follows within a few steps."""
    times = times_of((4, 0.1), *[(4, 0.3)] * 10)
    predicted_s = times.predict_s(4)
    assert predicted_s is not None
    assert 0.28 < predicted_s < 0.3


def test_one_odd_step_is_not_believed_at_once():
    """A single hiccup moves the average by a quarter of it."""
    assert pytest.approx(0.325) == times_of((4, 0.1), (4, 1.0)).predict_s(4)


def test_the_recent_outweighs_what_it_contradicts():
    """A large step that was fast long ago does not make today's small ones look fast."""
    times = times_of((64, 0.1), *[(4, 0.3)] * 300)
    predicted_s = times.predict_s(64)
    assert predicted_s is not None
    assert pytest.approx(0.3, rel=0.01) == times.predict_s(4)
    assert pytest.approx(0.3, rel=0.01) == predicted_s


def test_what_was_seen_a_day_ago_still_counts():
    """Old sizes that contradict each other meet in the middle, however old they are."""
    times = times_of((16, 0.4), (32, 0.2), *[(1, 0.1)] * 50_000)
    assert (pytest.approx(0.1), pytest.approx(0.3)) == (times.predict_s(1), times.predict_s(24))


def test_what_was_slow_per_token_is_forgotten_where_smaller_steps_are_fast_again():
    """Nobody would try the larger step again, so the smaller ones since speak for it."""
    busy = [(64, 0.4), (256, 1.2)]
    assert 1.2 == times_of(*busy).predict_s(256)
    assert pytest.approx(0.4, rel=0.01) == times_of(*busy, *[(64, 0.1)] * 300).predict_s(256)


def test_what_is_always_slow_per_token_is_believed():
    """Seen as lately as the smaller one, it takes what it takes."""
    predicted_s = times_of(*[(64, 0.1), (256, 1.2)] * 300).predict_s(256)
    assert pytest.approx(1.2) == predicted_s


def test_what_just_happened_and_contradicts_meets_in_the_middle():
    """Two steps right after each other, the larger one faster, count as their mean."""
    predicted_s = times_of((4, 0.2), (8, 0.1)).predict_s(4)
    assert pytest.approx(0.15, rel=0.02) == predicted_s


@given(steps=observations, more=st.integers(1, 3000))
def test_the_larger_never_takes_less(steps, more):
    """Whatever was seen, the prediction does not fall as a step grows."""
    times = times_of(*steps)
    predicted = [times.predict_s(n) for n in sorted({1, 7, 8, more, more + 1, 4000})]
    known = [duration_s for duration_s in predicted if duration_s is not None]
    assert len(predicted) == len(known)
    for smaller, larger in itertools.pairwise(known):
        assert smaller <= larger * (1 + 1e-9)


@given(steps=observations, limit_s=st.floats(1e-4, 200.0), most=st.integers(0, 3000))
def test_the_most_tokens_fit_and_one_more_does_not(steps, limit_s, most):
    """The answer keeps to the duration, and only *most* or the duration holds it back."""
    times = times_of(*steps)
    num_tokens = times.most_tokens_within(limit_s, most)
    assert num_tokens is not None
    if num_tokens:
        predicted_s = times.predict_s(num_tokens)
        assert predicted_s is not None
        assert predicted_s <= limit_s
    if num_tokens < most:
        predicted_s = times.predict_s(num_tokens + 1)
        assert predicted_s is not None
        assert predicted_s > limit_s * (1 - 1e-9)
