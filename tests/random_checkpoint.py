"""Writes tiny checkpoints with random weights, without torch and without downloads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from stillhouse.engines.openvino.graph.architecture import read_architecture

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

LLAMA_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 199,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": LLAMA3_SCALING,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}

QWEN2_CONFIG: dict[str, Any] = {
    "model_type": "qwen2",
    "vocab_size": 199,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "use_sliding_window": False,
    "sliding_window": 512,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}


def write_checkpoint(
    directory: Path, config: dict[str, Any], *, seed: int = 0, dtype: str = "F32"
) -> dict[str, NDArray[np.float32]]:
    """
    Write config.json and model.safetensors to *directory* and return the weights as stored.

    The weights are large enough that greedy continuations differ from prompt to prompt.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng(seed)
    weights = {
        spec.name: _random(generator, spec.shape) for spec in read_architecture(directory).tensors()
    }
    return write_safetensors(directory / "model.safetensors", weights, dtype=dtype)


def write_safetensors(
    path: Path, tensors: dict[str, NDArray[np.float32]], *, dtype: str = "F32"
) -> dict[str, NDArray[np.float32]]:
    """Write *tensors* as *dtype* (F32, F16 or BF16) and return them as they read back."""
    header: dict[str, Any] = {"__metadata__": {"format": "np"}}
    body, stored, end = [], {}, 0
    for name, values in tensors.items():
        raw, stored[name] = _store(values, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [end, end + len(raw)],
        }
        body.append(raw)
        end += len(raw)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(body))
    return stored


def _random(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) == 1:
        return generator.normal(1.0, 0.2, shape).astype(np.float32)
    return generator.normal(0.0, 1.5 / shape[1] ** 0.5, shape).astype(np.float32)


def _store(values: NDArray[np.float32], dtype: str) -> tuple[bytes, NDArray[np.float32]]:
    if dtype == "BF16":
        halves = (values.view(np.uint32) >> 16).astype(np.uint16)
        return halves.tobytes(), (halves.astype(np.uint32) << 16).view(np.float32)
    stored = values.astype({"F32": np.float32, "F16": np.float16}[dtype])
    return stored.tobytes(), stored.astype(np.float32)
