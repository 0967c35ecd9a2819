"""
Samples the next token, exactly and without sorting the vocabulary.

The order is vLLM's: temperature, then min-p, then top-k, then top-p of what is left. Tokens as
likely as the last one kept are kept as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillhouse.types.sampling import SamplingParams

GREEDY_BELOW = 1e-5  # vLLM's _SAMPLING_EPS; below it float32 has only one token left anyway
TILE = 256  # of the vocabulary; two levels of sums and maxima of about equal size


def make_generator(sampling: SamplingParams) -> np.random.Generator | None:
    """Returns a request's random generator, or None where it takes the likeliest token."""
    if sampling.temperature < GREEDY_BELOW:
        return None
    seed = None if sampling.seed is None else sampling.seed % 2**64
    return np.random.Generator(np.random.PCG64(seed))


def sample(
    logits: NDArray[np.float32],
    sampling: SamplingParams,
    generator: np.random.Generator | None,
) -> int:
    """
    Samples a token.

    Args:
        logits: float32, shape (vocabulary,); not changed.
        generator: From `make_generator`; a draw moves it on.

    Returns:
        A token id; the likeliest one where the logits are not numbers.

    """
    likeliest = int(logits.argmax())
    peak = logits[likeliest]
    if generator is None or not np.isfinite(peak):
        return likeliest
    weights = (logits - peak) * np.float32(1.0 / sampling.temperature)
    np.exp(weights, out=weights)
    token_ids = _keep_likely(weights, sampling)
    if token_ids is None:
        return _draw_nucleus(weights, sampling.top_p, generator)
    return int(token_ids[_draw_nucleus(weights[token_ids], sampling.top_p, generator)])


def _keep_likely(weights: NDArray[np.float32], sampling: SamplingParams) -> NDArray[np.intp] | None:
    """Returns the tokens that min-p and top-k leave, None where that is all of them."""
    threshold = np.float32(sampling.min_p)  # the likeliest has weight 1
    if 0 < sampling.top_k < len(weights):
        threshold = max(threshold, kth_largest(weights, sampling.top_k))
    return np.flatnonzero(weights >= threshold) if threshold > 0 else None


def kth_largest(weights: NDArray[np.float32], k: int) -> np.float32:
    """
    Returns the value of the k-th largest weight.

    The k-th largest of the tiles' maxima cannot be above it, so that few weights stay to be
    partitioned. Partitioning a whole vocabulary takes 1 to 15 ms.
    """
    maxima = np.maximum.reduceat(weights, np.arange(0, len(weights), TILE))
    if k < len(maxima):
        weights = weights[weights >= np.partition(maxima, -k)[-k]]
    return np.float32(np.partition(weights, -k)[-k])


def _draw_nucleus(
    weights: NDArray[np.float32], top_p: float, generator: np.random.Generator
) -> int:
    """
    Draws an index in proportion to *weights* from the smallest set whose mass reaches *top_p*.

    A draw is accepted if the mass of all that is likelier is below *top_p*: just these are in the
    set. What is no likelier than a refused draw is outside as well, and the next draw is from
    the rest, so that a few are enough whatever the distribution.
    """
    drawn, mass = _draw(weights, generator)
    indices = None
    while top_p < 1:
        is_likelier = weights > weights[drawn]
        # As float32, the smallest top_p would be 0, and not even the likeliest would be kept.
        if float(np.dot(weights, is_likelier)) < top_p * mass:
            break
        kept = np.flatnonzero(is_likelier)
        indices = kept if indices is None else indices[kept]
        weights = weights[kept]
        drawn, _ = _draw(weights, generator)
    return drawn if indices is None else int(indices[drawn])


def _draw(weights: NDArray[np.float32], generator: np.random.Generator) -> tuple[int, float]:
    """
    Draws an index in proportion to *weights*: finds its tile first, then its place in there.

    Returns:
        The index, and the sum of all weights.

    """
    tiles = np.add.reduceat(weights, np.arange(0, len(weights), TILE))
    ends = np.cumsum(tiles, dtype=np.float64)
    # Rounding could lift the product to the very end, behind the last tile that has a weight.
    target = min(generator.random() * ends[-1], np.nextafter(ends[-1], 0.0))
    tile = int(np.searchsorted(ends, target, side="right"))
    start = tile * TILE
    inner = weights[start : start + TILE]
    inner_target = target - (ends[tile - 1] if tile else 0.0)
    place = int(np.searchsorted(np.cumsum(inner, dtype=np.float64), inner_target, side="right"))
    # The tile's own sum is rounded to float32: its last weight that is not 0 takes the rest.
    return start + min(place, int(np.flatnonzero(inner)[-1])), float(ends[-1])
