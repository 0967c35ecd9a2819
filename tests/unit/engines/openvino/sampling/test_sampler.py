"""Draws against probabilities worked out with a sort."""

from __future__ import annotations

import numpy as np
import pytest

from stillhouse.engines.openvino.sampling.sampler import TILE, make_generator, sample
from stillhouse.types.sampling import SamplingParams

NUM_DRAWS = 1500


def expected_probabilities(logits, sampling: SamplingParams):
    """Follow vLLM's order in float64 with one sort: temperature, min-p, top-k, top-p."""
    scaled = logits.astype(np.float64) / sampling.temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities[probabilities < sampling.min_p] = 0.0
    order = np.argsort(-probabilities, kind="stable")
    if sampling.top_k:
        probabilities[order[sampling.top_k :]] = 0.0
    probabilities /= probabilities.sum()
    mass_before = np.cumsum(probabilities[order]) - probabilities[order]
    probabilities[order[mass_before >= sampling.top_p]] = 0.0
    return probabilities / probabilities.sum()


def distinct_logits(size: int, *, spread: float):
    """No two are equal, so that a sort leaves no choice."""
    generator = np.random.default_rng(size)
    return (spread * generator.permutation(size) / size).astype(np.float32)


@pytest.mark.parametrize("size", [1, TILE, 3 * TILE + 17])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=0.6, top_p=0.95),
        SamplingParams(temperature=2.0, top_p=0.1),
        SamplingParams(temperature=1.0, top_k=3),
        SamplingParams(temperature=1.0, top_k=TILE),
        SamplingParams(temperature=1.0, min_p=0.3),
        SamplingParams(temperature=0.8, top_k=40, top_p=0.8, min_p=0.05),
        SamplingParams(temperature=1.0, top_k=40, min_p=0.9),
    ],
)
@pytest.mark.parametrize("spread", [0.5, 12.0])
def test_draws_follow_the_distribution(sampling, size, spread):
    """Over many draws each token comes as often as its probability says, by chi-squared."""
    logits = distinct_logits(size, spread=spread)
    generator = np.random.Generator(np.random.PCG64(7))
    draws = [sample(logits, sampling, generator) for _ in range(NUM_DRAWS)]
    counts = np.bincount(draws, minlength=size)
    expected = expected_probabilities(logits, sampling) * len(draws)
    assert not counts[expected == 0].any()
    is_common = expected >= 5
    observed = np.append(counts[is_common], counts[~is_common].sum())
    expected = np.append(expected[is_common], expected[~is_common].sum())
    kept = expected > 0
    chi_squared = (((observed - expected)[kept]) ** 2 / expected[kept]).sum()
    freedom = max(kept.sum() - 1, 1)
    assert chi_squared < freedom + 5 * (2 * freedom) ** 0.5


def test_a_large_vocabulary_is_drawn_exactly():
    """The tail that top-p leaves out never comes, in a vocabulary of Llama's size."""
    logits = np.random.default_rng(1).normal(0, 3, 128_256).astype(np.float32)
    sampling = SamplingParams(temperature=1.0, top_p=0.5)
    is_kept = expected_probabilities(logits, sampling) > 0
    generator = np.random.Generator(np.random.PCG64(7))
    draws = [sample(logits, sampling, generator) for _ in range(300)]
    assert is_kept[draws].all()
    assert len(set(draws)) > 100


def test_a_flat_distribution_is_drawn_in_few_tries():
    """Top-p of nearly nothing on a flat vocabulary does not spin: each refusal halves the rest."""

    class Counting(np.random.Generator):
        num_calls = 0

        def random(self, *args, **kwargs):
            self.num_calls += 1
            return super().random(*args, **kwargs)

    generator = Counting(np.random.PCG64(7))
    logits = distinct_logits(100_000, spread=1.0)
    for _ in range(50):
        assert sample(logits, SamplingParams(top_p=1e-6), generator) == logits.argmax()
    assert generator.num_calls < 50 * 30


@pytest.mark.parametrize("top_p", [1e-44, 1e-46, 5e-324])
def test_smallest_top_p_keeps_the_likeliest(top_p):
    """However near to nothing, the set whose mass reaches it has a token in it."""
    generator = np.random.Generator(np.random.PCG64(7))
    logits = distinct_logits(1000, spread=1.0)
    assert sample(logits, SamplingParams(top_p=top_p), generator) == logits.argmax()


def test_equally_likely_tokens_are_kept_together():
    """A tie at the edge of top-k or top-p is not broken by position."""
    logits = np.zeros(50, np.float32)
    generator = np.random.Generator(np.random.PCG64(7))
    for sampling in (SamplingParams(top_k=2), SamplingParams(top_p=0.02)):
        assert 50 == len({sample(logits, sampling, generator) for _ in range(2000)})


def test_masked_logits_never_come():
    """Minus infinity is no chance at all, at the ends of tiles as well."""
    logits = np.full(3 * TILE, -np.inf, np.float32)
    logits[[5, TILE, 2 * TILE - 1]] = [1.0, 1.5, 0.5]
    generator = np.random.Generator(np.random.PCG64(7))
    draws = {sample(logits, SamplingParams(), generator) for _ in range(500)}
    assert {5, TILE, 2 * TILE - 1} == draws


def test_logits_that_are_no_numbers_do_not_spin():
    """A broken model gives some token rather than none for ever."""
    generator = np.random.Generator(np.random.PCG64(7))
    for value in (np.nan, np.inf, -np.inf):
        logits = np.full(10, value, np.float32)
        assert 0 <= sample(logits, SamplingParams(top_p=0.5), generator) < 10


def test_temperature_0_takes_the_likeliest():
    """No generator is made, and no draw is needed."""
    sampling = SamplingParams(temperature=0.0, seed=1)
    assert make_generator(sampling) is None
    assert 2 == sample(np.array([1, 2, 3], np.float32), sampling, None)


@pytest.mark.parametrize("seed", [0, -5, 2**63, 2**64 - 1])
def test_a_seed_is_any_64_bit_number(seed):
    """Every seed that a frame can carry gives a generator of its own."""
    sampling = SamplingParams(seed=seed)
    first, again = make_generator(sampling), make_generator(sampling)
    other = make_generator(SamplingParams(seed=17))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.random() == again.random() != other.random()
