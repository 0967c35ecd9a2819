"""What is drawn where tokens were drafted is what is drawn where none were."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from stillhouse.engines.base import EngineFinish, GenerateRequest
from stillhouse.engines.openvino.sampling.logit_rules import make_logit_rules
from stillhouse.engines.openvino.sampling.sampler import make_generator
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.speculation.acceptance import sample_tokens
from stillhouse.engines.openvino.speculation.drafts import NO_DRAFT, Draft
from stillhouse.types.sampling import SamplingParams

VOCAB_SIZE = 5
LENGTH = 3
NUM_ANSWERS = 8000
LARGEST_CHI_SQUARE = 178.4  # of 124 degrees of freedom, exceeded once in a thousand times
SAMPLED = SamplingParams(temperature=1, seed=1)
#: A language in which the next token depends on the last one alone.
LANGUAGE = np.random.default_rng(0).normal(0, 1.2, (VOCAB_SIZE, VOCAB_SIZE)).astype(np.float32)


def sequence_of(sampling: SamplingParams, max_tokens: int = LENGTH, **fields) -> Sequence:
    request = GenerateRequest("r", [0], max_tokens, sampling, **fields)
    return Sequence(
        0,
        request,
        block_size=4,
        generator=make_generator(sampling),
        logit_rules=make_logit_rules(request, None),
    )


def answer(sequence: Sequence, draft_ids: tuple[int, ...]) -> list[int]:
    """Draw to the end, with *draft_ids* before every draw, and return the tokens."""
    while sequence.finish is None:
        draft = Draft(draft_ids[: sequence.num_tokens_left - 1], 2) if draft_ids else NO_DRAFT
        last = sequence.token_ids[-1]
        before = sequence.num_tokens
        output = sample_tokens(sequence, LANGUAGE[[last, *draft.token_ids]], draft)
        assert output.token_ids == sequence.token_ids[before:].tolist()
        assert len(output.token_ids) - 1 == output.num_accepted
    return sequence.token_ids[1:].tolist()


@pytest.mark.parametrize("draft_ids", [(), (0, 0), (1, 2), (4, 3), (2, 2)])
def test_draft_tokens_do_not_change_the_distribution(draft_ids):
    """Of 8000 answers each of the 125 possible ones comes as often as the model says."""
    weights = np.exp(LANGUAGE.astype(np.float64))
    odds = weights / weights.sum(axis=1, keepdims=True)
    sequences = (
        sequence_of(SamplingParams(temperature=1, seed=seed)) for seed in range(NUM_ANSWERS)
    )
    seen = Counter(tuple(answer(sequence, draft_ids)) for sequence in sequences)
    chi_square = 0.0
    for tokens in itertools.product(range(VOCAB_SIZE), repeat=LENGTH):
        steps = itertools.pairwise((0, *tokens))
        expected = NUM_ANSWERS * float(np.prod([odds[step] for step in steps]))
        chi_square += (seen[tokens] - expected) ** 2 / expected
    assert chi_square < LARGEST_CHI_SQUARE


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0),
        SAMPLED,
        SamplingParams(temperature=0.8, top_p=0.7, seed=2),
        SamplingParams(temperature=1, top_k=3, min_p=0.05, seed=3),
        SamplingParams(temperature=1, frequency_penalty=1.5, presence_penalty=-0.5, seed=4),
        SamplingParams(temperature=0, repetition_penalty=1.7),
        SamplingParams(temperature=1, logit_bias=((1, 2.0), (3, -100.0)), seed=5),
    ],
)
def test_draft_tokens_do_not_change_a_token(sampling):
    """The same seed gives the same tokens, with whatever rules, whatever is drafted."""
    expected = answer(sequence_of(sampling, 40), ())
    rng = np.random.default_rng(0)
    for _ in range(50):
        draft_ids = tuple(rng.integers(0, VOCAB_SIZE, 4).tolist())
        assert expected == answer(sequence_of(sampling, 40), draft_ids)


def test_right_draft_tokens_are_taken_together_with_one_more_token():
    """Of three draft tokens that all come true there are four tokens."""
    expected = answer(sequence_of(SAMPLED, 4), ())
    sequence = sequence_of(SAMPLED, 9)
    output = sample_tokens(sequence, LANGUAGE[[0, *expected[:3]]], Draft(tuple(expected[:3]), 2))
    assert (expected, 3) == (output.token_ids, output.num_accepted)


def test_nothing_follows_a_stop_token():
    """A stop token that was drafted ends the answer, and what was drafted behind it is nothing."""
    expected = answer(sequence_of(SAMPLED, 4), ())
    stop = expected[2]
    end = expected.index(stop) + 1
    sequence = sequence_of(SAMPLED, 9, stop_token_ids=(stop,))
    output = sample_tokens(sequence, LANGUAGE[[0, *expected]], Draft(tuple(expected), 2))
    assert (expected[:end], EngineFinish.STOP) == (output.token_ids, sequence.finish)


def test_every_token_has_its_own_log_probability():
    """Each is that of the row it was sampled from; a rejected draft token has none."""
    expected = answer(sequence_of(SAMPLED, 2), ())
    wrong = (expected[1] + 1) % VOCAB_SIZE
    sequence = sequence_of(SAMPLED, 9, top_logprobs=1)
    output = sample_tokens(
        sequence, LANGUAGE[[0, expected[0], wrong]], Draft((expected[0], wrong), 2)
    )
    rows = LANGUAGE[[0, expected[0]]].astype(np.float64)
    logs = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    assert expected == output.token_ids
    assert pytest.approx(logs[[0, 1], expected].tolist()) == [p.logprob for p in output.logprobs]
    assert logs.argmax(axis=1).tolist() == [p.top[0][0] for p in output.logprobs]
