"""Bias and penalties against the formulas, written down naively."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.openvino.sampling.logit_rules import make_logit_rules
from stillhouse.engines.openvino.sampling.penalties import FIRST_CAPACITY
from stillhouse.types.sampling import SamplingParams

VOCAB_SIZE = 40

token_ids = st.integers(0, VOCAB_SIZE - 1)
penalties = st.sampled_from([0.0, 0.3, -0.7, 2.0, -2.0])
samplings = st.builds(
    SamplingParams,
    presence_penalty=penalties,
    frequency_penalty=penalties,
    repetition_penalty=st.sampled_from([1.0, 0.01, 0.8, 1.3, 5.0]),
    logit_bias=st.dictionaries(token_ids, st.floats(-150, 150, width=32), max_size=5).map(
        lambda biases: tuple(biases.items())
    ),
)


def naive(logits, sampling: SamplingParams, prompt, completion):
    """Follow the formulas one token at a time, each result rounded to float32."""
    counts, biases = Counter(completion), dict(sampling.logit_bias)
    expected = []
    for token_id, logit in enumerate(logits):
        value = np.float32(logit)
        value += np.float32(biases.get(token_id, 0.0))
        if token_id in counts or token_id in prompt:
            repetition = np.float32(sampling.repetition_penalty)
            value = value / repetition if value > 0 else value * repetition
        value -= np.float32(sampling.frequency_penalty) * np.float32(counts[token_id])
        value -= np.float32(sampling.presence_penalty) * np.float32(token_id in counts)
        expected.append(value)
    return np.array(expected, np.float32)


def logits_of(seed: int):
    return np.random.default_rng(seed).normal(0, 4, VOCAB_SIZE).astype(np.float32)


def rules_of(sampling: SamplingParams, prompt=(1,)):
    return make_logit_rules(GenerateRequest("r", [*prompt], 9, sampling), None)


@settings(deadline=None)
@given(samplings, st.lists(token_ids, min_size=1), st.lists(token_ids, max_size=120))
def test_rules_are_the_formulas(sampling, prompt, completion):
    """After every token, what is drawn from is bit by bit what the formulas say."""
    rules = rules_of(sampling, prompt)
    for num_tokens in range(len(completion) + 1):
        logits = logits_of(num_tokens)
        given_logits = logits.copy()
        expected = naive(logits, sampling, prompt, completion[:num_tokens])
        actual = logits if rules is None else rules.apply(logits)
        np.testing.assert_array_equal(expected, actual)
        np.testing.assert_array_equal(given_logits, logits)
        if rules is not None and num_tokens < len(completion):
            rules.advance(completion[num_tokens])


def test_more_distinct_tokens_than_there_was_room_for_first():
    """Counts survive the growth of what keeps them, whether the prompt counts or not."""
    vocab_size = 10 * FIRST_CAPACITY
    logits = np.random.default_rng(0).normal(0, 4, vocab_size).astype(np.float32)
    completion = [*range(0, vocab_size, 3)] * 2
    for repetition in (1.0, 1.5):
        sampling = SamplingParams(frequency_penalty=1.0, repetition_penalty=repetition)
        rules = rules_of(sampling, prompt=[7, 8, 7])
        assert rules is not None
        for token_id in completion:
            rules.advance(token_id)
        expected = naive(logits, sampling, [7, 8], completion)
        np.testing.assert_array_equal(expected, rules.apply(logits))


def test_a_request_without_rules_has_none():
    """Nothing is copied, kept or counted for the usual request."""
    assert rules_of(SamplingParams(temperature=0.7, top_p=0.9, seed=1)) is None


def test_a_bias_beyond_float32_still_decides():
    """The largest and smallest numbers force and forbid like any other, and overflow nothing."""
    logits = logits_of(1)
    rules = rules_of(SamplingParams(repetition_penalty=5, logit_bias=((1, 1e308), (2, -1e308))))
    assert rules is not None
    ruled = rules.apply(logits)
    assert np.isfinite(ruled).all()
    assert (1, 2) == (ruled.argmax(), ruled.argmin())
