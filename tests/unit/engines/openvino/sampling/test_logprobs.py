"""Log probabilities against float64 and a sort."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.openvino.sampling.logprobs import LOWEST, step_logprobs
from stillhouse.engines.openvino.sampling.sampler import TILE
from stillhouse.types.logprobs import StepLogprobs


def naive(logits, token_id, num_top):
    exact = logits.astype(np.float64)
    logprobs = exact - np.logaddexp.reduce(exact)
    order = np.lexsort((np.arange(len(logits)), -exact))[:num_top]
    return logprobs[token_id], [(int(top), logprobs[top]) for top in order]


@settings(deadline=None)
@given(
    values=st.lists(st.integers(-40, 40), min_size=1, max_size=30),
    repeat=st.sampled_from([1, 7, 3 * TILE]),
    scale=st.sampled_from([0.25, 1.0, 7.5]),
    num_top=st.integers(0, 20),
)
def test_the_drawn_and_the_likeliest_are_those_of_a_sort(values, repeat, scale, num_top):
    """Ids are exactly those of a sort, ties by id; numbers agree to single precision."""
    logits = (np.array(values, np.float32) * np.float32(scale)).repeat(repeat)
    token_id = len(logits) // 2
    expected, expected_top = naive(logits, token_id, num_top)
    actual = step_logprobs(logits, token_id, num_top)

    assert expected == pytest.approx(actual.logprob, abs=1e-5)
    assert [top_id for top_id, _ in expected_top] == [top_id for top_id, _ in actual.top]
    assert [value for _, value in expected_top] == pytest.approx(
        [value for _, value in actual.top], abs=1e-5
    )


def test_numbers_stay_exact_where_exponentials_do_not():
    """Logits in the thousands neither overflow nor lose the difference of two likely tokens."""
    logits = np.array([5000.0, 4999.0, -5000.0, -np.inf], np.float32)
    total = math.log(1 + math.exp(-1))
    expected = StepLogprobs(LOWEST, ((0, -total), (1, -1 - total), (2, LOWEST), (3, LOWEST)))
    actual = step_logprobs(logits, 3, 20)
    assert expected.logprob == actual.logprob
    assert [pytest.approx(pair) for pair in expected.top] == [*actual.top]


def test_a_vocabulary_of_llamas_size_sums_to_one():
    """The mass of 128 256 tokens is lost to no rounding."""
    logits = np.random.default_rng(0).normal(0, 1, 128_256).astype(np.float32)
    logprobs = [step_logprobs(logits, token_id, 0).logprob for token_id in range(0, 128_256, 501)]
    expected, _ = naive(logits, 0, 0)
    assert expected == pytest.approx(logprobs[0], abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_have_no_log_probabilities(value):
    """A broken model gives numbers that JSON can carry, and no order."""
    logits = np.array([0.0, value, 1.0], np.float32)
    if value == -np.inf:
        logits[:] = value
    assert StepLogprobs(LOWEST) == step_logprobs(logits, 0, 3)
