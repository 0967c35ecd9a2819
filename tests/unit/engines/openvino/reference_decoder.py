"""
The forward pass of a Llama- or Qwen2-family decoder in plain float64 numpy.

Written from the papers and from config.json alone: it shares no code with the engine, so that
both are unlikely to be wrong in the same way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def reference_logits(
    config: Mapping[str, Any],
    weights: Mapping[str, NDArray[np.float32]],
    token_ids: list[int],
) -> NDArray[np.float64]:
    """Return the logits after every token, float64, shape (tokens, vocabulary)."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    num_heads, num_kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim", config["hidden_size"] // num_heads)
    cos, sin = _waves(config, head_dim, len(token_ids))
    x = w["model.embed_tokens.weight"][token_ids]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        mask = _mask(config, layer, len(token_ids))

        def project(x: Any, name: str, at: str = at) -> Any:
            return x @ w[f"{at}{name}.weight"].T + w.get(f"{at}{name}.bias", 0.0)

        h = _norm(x, w[f"{at}input_layernorm.weight"], config["rms_norm_eps"])
        q = project(h, "self_attn.q_proj").reshape(-1, num_heads, head_dim)
        k = project(h, "self_attn.k_proj").reshape(-1, num_kv_heads, head_dim)
        v = project(h, "self_attn.v_proj").reshape(-1, num_kv_heads, head_dim)
        q, k = _turn(q, cos, sin), _turn(k, cos, sin)
        k, v = (np.repeat(part, num_heads // num_kv_heads, axis=1) for part in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(head_dim)
        attended = np.einsum("hqk,khd->qhd", _softmax(np.where(mask, scores, -np.inf)), v)
        x = x + project(attended.reshape(len(token_ids), -1), "self_attn.o_proj")
        h = _norm(x, w[f"{at}post_attention_layernorm.weight"], config["rms_norm_eps"])
        gate = project(h, "mlp.gate_proj")
        x = x + project(gate / (1 + np.exp(-gate)) * project(h, "mlp.up_proj"), "mlp.down_proj")
    x = _norm(x, w["model.norm.weight"], config["rms_norm_eps"])
    head = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    logits: NDArray[np.float64] = x @ w[f"{head}.weight"].T
    return logits


def _norm(x: Any, weight: Any, epsilon: float) -> Any:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def _softmax(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _mask(config: Mapping[str, Any], layer: int, num_tokens: int) -> Any:
    distance = np.arange(num_tokens)[:, None] - np.arange(num_tokens)[None, :]
    is_seen = distance >= 0
    if config.get("use_sliding_window") and layer >= config["max_window_layers"]:
        is_seen &= distance < config["sliding_window"]
    return is_seen


def _turn(x: Any, cos: Any, sin: Any) -> Any:
    """Turn each pair (i, i + half) of a head as one complex number."""
    half = x.shape[-1] // 2
    turned = (x[..., :half] + 1j * x[..., half:]) * (cos + 1j * sin)[:, None, :]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _waves(config: Mapping[str, Any], head_dim: int, num_tokens: int) -> tuple[Any, Any]:
    base = config["rope_theta"]
    scaling = config.get("rope_scaling") or {"rope_type": "default"}
    kind = scaling.get("rope_type", scaling.get("type"))
    frequencies, magnitude = [], 1.0
    for i in range(head_dim // 2):
        frequency = base ** (-2 * i / head_dim)
        if kind == "linear":
            frequency /= scaling["factor"]
        elif kind == "llama3":
            frequency = _llama3_frequency(frequency, scaling)
        elif kind == "yarn":
            frequency = _yarn_frequency(frequency, i, head_dim, base, scaling)
            magnitude = 0.1 * math.log(scaling["factor"]) + 1
        frequencies.append(frequency)
    angles = np.outer(np.arange(num_tokens), frequencies)
    return magnitude * np.cos(angles), magnitude * np.sin(angles)


def _llama3_frequency(frequency: float, scaling: Mapping[str, float]) -> float:
    """As Llama's reference code has it: by wavelength, in three bands."""
    wavelength = 2 * math.pi / frequency
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    if wavelength < original / high:
        return frequency
    if wavelength > original / low:
        return frequency / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / factor + smooth * frequency


def _yarn_frequency(
    frequency: float, i: int, head_dim: int, base: float, scaling: Mapping[str, float]
) -> float:
    """Equations 18 to 23 of arXiv 2309.00071, the ramp's ends rounded as the authors' code does."""
    original = scaling["original_max_position_embeddings"]

    def dimension(num_rotations: float) -> float:
        return head_dim * math.log(original / (num_rotations * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(dimension(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(dimension(scaling.get("beta_slow", 1))), head_dim - 1)
    ramp = min(max((i - low) / (high - low), 0.0), 1.0)
    return (1 - ramp) * frequency + ramp * frequency / scaling["factor"]
