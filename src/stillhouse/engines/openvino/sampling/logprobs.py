"""Computes log probabilities of the model's own logits, without sorting the vocabulary."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from stillhouse.engines.openvino.sampling.sampler import kth_largest
from stillhouse.types.logprobs import StepLogprobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOWEST = -9999.0  # what OpenAI reports of the least likely; a JSON number, as minus infinity is not


def step_logprobs(logits: NDArray[np.float32], token_id: int, num_top: int) -> StepLogprobs:
    """
    Returns the log probability of a token and those of the *num_top* likeliest ones.

    Args:
        logits: float32, shape (vocabulary,), as the model computed them; not changed.

    Returns:
        Natural logarithms in float64, never below `LOWEST`; the likeliest first, of equally likely
        ones the lower id. Of logits that are no numbers nothing is known.

    """
    peak = logits.max()
    if not np.isfinite(peak):
        return StepLogprobs(LOWEST)
    log_total = float(peak) + math.log(np.exp(logits - peak).sum(dtype=np.float64))
    return StepLogprobs(
        _bounded(float(logits[token_id]) - log_total),
        tuple(
            (int(top_id), _bounded(float(logits[top_id]) - log_total))
            for top_id in _likeliest(logits, num_top)
        ),
    )


def _likeliest(logits: NDArray[np.float32], num_top: int) -> NDArray[np.intp]:
    num_top = min(num_top, len(logits))
    if num_top == 0:
        return np.empty(0, np.intp)
    threshold = kth_largest(logits, num_top)
    above = np.flatnonzero(logits > threshold)
    equal = np.flatnonzero(logits == threshold)[: num_top - len(above)]
    above = above[np.argsort(-logits[above], kind="stable")]
    return np.concatenate([above, equal])


def _bounded(logprob: float) -> float:
    return max(logprob, LOWEST)
