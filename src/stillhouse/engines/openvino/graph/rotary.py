"""Computes rotary position embeddings, and their scaling to longer contexts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillhouse.checkpoints.config_json import ConfigJson

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
DEFAULT_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class Rotary:
    """
    Describes how positions rotate queries and keys.

    Args:
        inverse_frequencies: float32, shape (head_dim / 2), radians per position.
        magnitude: Factor on cosine and sine; queries and keys both carry it.
        context_factor: By how much the scaling lengthens the context that the model was made for.

    Source:
        RoPE: arXiv 2104.09864. Scalings as in transformers' modeling_rope_utils.py.

    """

    inverse_frequencies: NDArray[np.float32]
    magnitude: float = 1.0
    context_factor: float = 1.0


def read_rotary(config: ConfigJson, *, head_dim: int, max_positions: int) -> Rotary:
    """
    Reads `rope_scaling` and `rope_theta`, or `rope_parameters` that hold both since transformers 5.

    Raises:
        CheckpointError: The scaling is of a kind not built here, or lacks a value.

    """
    scaling = config.section("rope_parameters") or config.section("rope_scaling")
    theta_holder = scaling if scaling is not None and scaling.has("rope_theta") else config
    theta = theta_holder.positive("rope_theta", default=DEFAULT_THETA)
    plain = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None:
        return Rotary(plain.astype(np.float32))
    key = "rope_type" if scaling.has("rope_type") else "type"
    match scaling.choice(key, ROPE_TYPES):
        case "linear":
            factor = scaling.positive("factor")
            return Rotary((plain / factor).astype(np.float32), context_factor=factor)
        case "llama3":
            return Rotary(_llama3(plain, scaling).astype(np.float32))
        case "yarn":
            return _yarn(plain, scaling, theta=theta, max_positions=max_positions)
        case _:
            return Rotary(plain.astype(np.float32))


def _llama3(plain: NDArray[np.float64], scaling: ConfigJson) -> NDArray[np.float64]:
    """Slows down the waves that never turned once in training; leaves the quick ones alone."""
    factor = scaling.positive("factor")
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    if high <= low:
        raise scaling.error("high_freq_factor", f"above low_freq_factor, {low:g}")
    num_turns = scaling.positive("original_max_position_embeddings") * plain / (2 * math.pi)
    keep = np.clip((num_turns - low) / (high - low), 0.0, 1.0)
    return plain * (keep + (1.0 - keep) / factor)


def _yarn(
    plain: NDArray[np.float64], scaling: ConfigJson, *, theta: float, max_positions: int
) -> Rotary:
    """Interpolates as llama3 does, with a ramp over dimensions; arXiv 2309.00071."""
    factor = scaling.positive("factor")
    original = scaling.integer("original_max_position_embeddings", default=max_positions)
    head_dim = 2 * len(plain)

    def dimension_that_turns(num_turns: float) -> float:
        return head_dim * math.log(original / (num_turns * 2 * math.pi)) / (2 * math.log(theta))

    first = dimension_that_turns(scaling.positive("beta_fast", default=32.0))
    last = dimension_that_turns(scaling.positive("beta_slow", default=1.0))
    if scaling.flag("truncate", default=True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    ramp = (np.arange(len(plain)) - first) / max(last - first, 0.001)
    stretch = np.clip(ramp, 0.0, 1.0)
    frequencies = plain * (1.0 - stretch) + plain / factor * stretch
    return Rotary(
        frequencies.astype(np.float32),
        magnitude=_yarn_magnitude(scaling, factor),
        context_factor=factor * original / max_positions,
    )


def _yarn_magnitude(scaling: ConfigJson, factor: float) -> float:
    def magnitude(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.has("attention_factor"):
        return scaling.positive("attention_factor")
    if scaling.has("mscale") and scaling.has("mscale_all_dim"):
        over, under = scaling.positive("mscale"), scaling.positive("mscale_all_dim")
        return magnitude(over) / magnitude(under)
    return magnitude(1.0)
